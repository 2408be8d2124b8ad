"""Who may call, and whose endpoints: API keys with the scope `infer`."""

from __future__ import annotations

from fastapi import Request
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_shared.errors import Unauthenticated, Unavailable
from sextant_shared.security import KeyCache, Secret, find_key

TENANT = "sextant-tenant"
"""The header by which evaluation, which has one key for all tenants, says whose job it does."""


class Gate:
    """Checks the key of each request."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._keys = KeyCache()

    async def check(self, request: Request) -> str:
        """The tenant whose endpoints are asked for: the key's, or the one that `Sextant-Tenant` names.

        Raises Unauthenticated or Forbidden unless the request may pass, Unavailable where nobody can tell.
        """
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise Unauthenticated()
        secret = Secret.parse(token.strip())
        key = self._keys.get(secret.prefix)
        if key is None:
            try:
                async with self._engine.connect() as conn:
                    key = await conn.run_sync(find_key, secret.prefix)
            except OperationalError:
                raise Unavailable("the metadata store is not reachable at present") from None
            if key is None:
                raise Unauthenticated()
            self._keys.put(secret.prefix, key)
        identity = key.check(secret)
        identity.require("infer")
        return identity.acting_for(request.headers.get(TENANT, identity.tenant)).tenant
