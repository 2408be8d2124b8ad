"""The FastAPI application: all routes, errors, limits; open to all are only health, version and the documentation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI, Response
from prometheus_client import CollectorRegistry
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from sextant_scheduler.api import administration, audit, endpoints, jobs, stream, uploads, versions
from sextant_scheduler.api.context import Context, Here
from sextant_scheduler.api.description import describe
from sextant_scheduler.api.limits import Limits
from sextant_scheduler.api.problems import install
from sextant_scheduler.metrics import ApiMetrics
from sextant_scheduler.settings import SchedulerSettings

OPEN_ROUTES = frozenset(
    {"/v1/health/live", "/v1/health/ready", "/v1/version", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
)


def create(
    connect: Callable[[], AbstractAsyncContextManager[Context]],
    registry: CollectorRegistry,
    settings: SchedulerSettings,
) -> FastAPI:
    """The application; `connect` makes its context when it starts, and takes it down."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with connect() as made:
            app.state.context = made
            yield

    # A path with a slash too many is none: a redirection would go wherever the Host header says.
    app = FastAPI(title="Sextant", version=version("sextant-platform"), lifespan=lifespan, redirect_slashes=False)
    for module in (jobs, stream, versions, uploads, endpoints, audit, administration):
        app.include_router(module.router)
    app.add_api_route("/v1/health/live", live, tags=["health"])
    app.add_api_route("/v1/health/ready", ready, tags=["health"])
    app.add_api_route("/v1/version", show_version, tags=["health"])
    install(app)
    app.openapi = describe(app, OPEN_ROUTES)  # type: ignore[method-assign] # as its manual says
    app.add_middleware(
        Limits,
        max_body_bytes=settings.max_body_bytes,
        max_in_flight=settings.max_in_flight,
        max_transfers=settings.max_transfers,
        metrics=ApiMetrics(registry),
    )
    return app


async def live() -> dict[str, str]:
    """Whether the process answers."""
    return {"status": "live"}


async def ready(here: Here, response: Response) -> dict[str, str]:
    """Whether the store and the bus can be reached."""
    try:
        await here.read(lambda conn: conn.execute(text("SELECT 1")))
    except (SQLAlchemyError, OSError):
        response.status_code = 503
        return {"status": "the metadata store is not reachable"}
    return {"status": "ready", "bus": "connected" if here.bus.connected else "away: events are late"}


async def show_version() -> dict[str, str]:
    """The version of the platform."""
    return {"version": version("sextant-platform")}
