"""What the routes work with, and who calls them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, TypeVar, cast

import httpx
from fastapi import Depends, Request
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_scheduler.api.fanout import Fanout
from sextant_scheduler.api.submissions import Submissions
from sextant_scheduler.settings import SchedulerSettings
from sextant_shared.artefacts import Artefacts
from sextant_shared.bus import Bus
from sextant_shared.errors import Unauthenticated
from sextant_shared.security import Identity, KeyCache, Secret, find_key

T = TypeVar("T")


@dataclass(frozen=True)
class Context:
    """The API process's parts, made once by `app.build_api`."""

    engine: AsyncEngine
    bus: Bus
    artefacts: Artefacts
    submissions: Submissions
    fanout: Fanout
    inference: httpx.AsyncClient
    settings: SchedulerSettings
    keys: KeyCache = field(default_factory=KeyCache)
    rng: Random = field(default_factory=Random)

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run `query` on a connection of its own."""
        async with self.engine.connect() as conn:
            return await conn.run_sync(query)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction, commit it, and wake the scheduler."""
        async with self.engine.begin() as conn:
            result = await conn.run_sync(work)
        await self.bus.wake()
        return result

    async def identify(self, request: Request) -> Identity:
        """Who calls. Raises Unauthenticated."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise Unauthenticated()
        secret = Secret.parse(token.strip())
        key = self.keys.get(secret.prefix)
        if key is None:
            key = await self.read(lambda conn: find_key(conn, secret.prefix))
            if key is None:
                raise Unauthenticated()
            self.keys.put(secret.prefix, key)
        return key.check(secret)


def context(request: Request) -> Context:
    """The context of the application that got the request."""
    return cast(Context, request.app.state.context)


def needs(scope: str) -> Callable[[Request], Awaitable[Identity]]:
    """A dependency that lets only keys with `scope` pass. Every route has one, or is named as open to all."""

    async def check(request: Request) -> Identity:
        identity = await context(request).identify(request)
        identity.require(scope)
        return identity

    return check


Here = Annotated[Context, Depends(context)]
ReadsJobs = Annotated[Identity, Depends(needs("jobs:read"))]
WritesJobs = Annotated[Identity, Depends(needs("jobs:write"))]
ReadsData = Annotated[Identity, Depends(needs("data:read"))]
WritesData = Annotated[Identity, Depends(needs("data:write"))]
ReadsModels = Annotated[Identity, Depends(needs("models:read"))]
Infers = Annotated[Identity, Depends(needs("infer"))]
ReadsNodes = Annotated[Identity, Depends(needs("nodes:read"))]
ReadsAudit = Annotated[Identity, Depends(needs("audit:read"))]
Administers = Annotated[Identity, Depends(needs("admin"))]
