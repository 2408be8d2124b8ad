"""What the routes work with, and who calls them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Any, TypeVar, cast

import httpx
from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_scheduler.api.fanout import Fanout
from sextant_scheduler.api.quotas import Quotas, Rates
from sextant_scheduler.api.submissions import Submissions
from sextant_scheduler.settings import SchedulerSettings
from sextant_shared.artefacts import Artefacts
from sextant_shared.bus import Bus
from sextant_shared.errors import Unauthenticated
from sextant_shared.security import SCOPES, Identity, KeyCache, Secret, StoredKey, find_key, mark_used

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
    rates: Rates
    quotas: Quotas
    keys: KeyCache = field(default_factory=KeyCache)
    rng: Random = field(default_factory=Random)
    asking: dict[str, asyncio.Task[StoredKey | None]] = field(default_factory=dict)
    """Keys that are being looked up."""

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
        """Who calls. Raises Unauthenticated, and RateLimited where the key calls too often."""
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            raise Unauthenticated()
        secret = Secret.parse(token.strip())
        key = self.keys.get(secret.prefix) or await self._look_up(secret.prefix)
        identity = key.check(secret)
        self.rates.take(identity.key_id)
        if self.keys.is_use_untold(identity.key_id):
            await self._tell_use(identity.key_id)
        return identity

    async def _look_up(self, prefix: str) -> StoredKey:
        # Requests that come at the same time with one key ask once for all of them.
        asked = self.asking.get(prefix)
        if asked is None:
            asked = self.asking[prefix] = asyncio.create_task(self.read(lambda conn: find_key(conn, prefix)))
            asked.add_done_callback(lambda _: self.asking.pop(prefix))
        key = await asyncio.shield(asked)
        if key is None:
            raise Unauthenticated()
        self.keys.put(prefix, key)
        return key

    async def _tell_use(self, key_id: str) -> None:
        async with self.engine.begin() as conn:
            await conn.run_sync(mark_used, key_id)


def context(request: Request) -> Context:
    """The context of the application that got the request."""
    return cast(Context, request.app.state.context)


async def here(request: Request) -> Context:
    """The same as a dependency: asynchronous, so that it takes no thread."""
    return context(request)


class Needs:
    """A dependency that gives the caller to a route, and declares the scope that the route takes."""

    def __init__(self, scope: str) -> None:
        if scope not in SCOPES:
            raise ValueError(f"{scope!r} is no scope")
        self.scope = scope

    async def __call__(self, request: Request) -> Identity:
        """The caller, whom `Guarded` has let pass."""
        return cast(Identity, request.state.identity)


class Guarded(APIRoute):
    """A route that lets a request pass when its key has the route's scope, before anything of it is read.

    One that declares none cannot be made.
    """

    scope: str

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's own, behind the check."""
        declared = {each.call.scope for each in self.dependant.dependencies if isinstance(each.call, Needs)}
        if len(declared) != 1:
            raise TypeError(f"{self.path} declares {len(declared)} scopes; a route takes exactly one")
        self.scope = declared.pop()
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            identity = await context(request).identify(request)
            identity.require(self.scope)
            request.state.identity = identity
            return await handle(request)

        return guarded


Here = Annotated[Context, Depends(here)]
ReadsJobs = Annotated[Identity, Depends(Needs("jobs:read"))]
WritesJobs = Annotated[Identity, Depends(Needs("jobs:write"))]
ReadsData = Annotated[Identity, Depends(Needs("data:read"))]
WritesData = Annotated[Identity, Depends(Needs("data:write"))]
ReadsModels = Annotated[Identity, Depends(Needs("models:read"))]
Infers = Annotated[Identity, Depends(Needs("infer"))]
ReadsNodes = Annotated[Identity, Depends(Needs("nodes:read"))]
ReadsAudit = Annotated[Identity, Depends(Needs("audit:read"))]
Administers = Annotated[Identity, Depends(Needs("admin"))]
