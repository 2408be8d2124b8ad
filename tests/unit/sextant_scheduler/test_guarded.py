"""No route is open that was not meant to be: deny by default."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from sextant_scheduler.api import administration, application, audit, endpoints, jobs, stream, uploads, versions
from sextant_scheduler.api.context import Administers, Context, Guarded, ReadsJobs
from sextant_scheduler.settings import SchedulerSettings
from sextant_shared.security import SCOPES

URLS = {"database_url": "x", "redis_url": "", "nats_url": "x", "artefacts_url": "x", "work_dir": "/x"}
MODULES = (jobs, stream, versions, uploads, endpoints, audit, administration)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    """The application, not started."""

    @asynccontextmanager
    async def connect() -> AsyncIterator[Context]:
        raise NotImplementedError
        yield

    return application.create(connect, CollectorRegistry(), SchedulerSettings.model_validate(URLS))


def paths(app: FastAPI) -> Iterator[tuple[str, BaseRoute]]:
    """Every route that the application answers, whoever holds it."""
    waiting: list[Any] = list(app.routes)
    while waiting:
        route = waiting.pop()
        inner = getattr(route, "original_router", None) or getattr(route, "routes", None)
        if inner is not None and not hasattr(route, "endpoint"):
            waiting += getattr(inner, "routes", inner)
        else:
            yield route.path, route


def test_every_route_declares_a_scope_or_is_named_as_open(app: FastAPI) -> None:
    found = dict[str, bool]()
    for path, route in paths(app):
        if path in application.OPEN_ROUTES:
            continue
        assert isinstance(route, Guarded), f"{path} is neither guarded nor named in OPEN_ROUTES"
        assert route.scope in SCOPES, path
        found[path] = True
    assert len(found) > 25
    assert {"/v1/jobs", "/v1/keys/{key_id}", "/v2/{path:path}", "/v1/jobs/{job_id}/stream"} <= set(found)


def test_what_is_open_is_there_and_holds_nothing_of_anybody(app: FastAPI) -> None:
    assert set(application.OPEN_ROUTES) <= {path for path, _ in paths(app)}
    assert not [path for path in application.OPEN_ROUTES if "{" in path]


@pytest.mark.parametrize("module", MODULES)
def test_all_routers_make_guarded_routes(module: Any) -> None:
    assert module.router.routes
    assert all(isinstance(route, Guarded) for route in module.router.routes)


def test_a_route_without_a_scope_or_with_two_cannot_be_made() -> None:
    router = APIRouter(route_class=Guarded)

    def open_to_all() -> None:
        """Nothing."""

    def of_two(one: ReadsJobs, two: Administers) -> None:
        """Nothing."""

    with pytest.raises(TypeError, match="declares 0 scopes"):
        router.add_api_route("/x", open_to_all)
    with pytest.raises(TypeError, match="declares 2 scopes"):
        router.add_api_route("/x", of_two)


def test_what_changes_something_takes_a_scope_to_write() -> None:
    harmless = {"/v1/jobs/validate", "/v2/{path:path}"}
    for module in MODULES:
        for route in module.router.routes:
            if isinstance(route, Guarded) and (route.methods or set()) - {"GET"} and route.path not in harmless:
                assert route.scope.endswith(":write") or route.scope == "admin", (route.path, route.scope)
