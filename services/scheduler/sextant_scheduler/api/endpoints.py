"""Routes of endpoints, and the way through to the inference service by the Open Inference Protocol."""

from __future__ import annotations

import re
from typing import Any

import httpx
from fastapi import APIRouter, Request, Response

from sextant_scheduler.api.context import Guarded, Here, Infers, ReadsModels, WritesJobs
from sextant_scheduler.api.idempotency import once
from sextant_scheduler.handlers import endpoints
from sextant_scheduler.store import reads
from sextant_shared.contracts.base import Name
from sextant_shared.contracts.views import EndpointView, Page
from sextant_shared.errors import NotFound, Unavailable

router = APIRouter(route_class=Guarded, tags=["endpoints"])
PASSED_ON = ("authorization", "content-type", "inference-header-content-length", "accept")
PASSED_BACK = ("content-type", "inference-header-content-length", "retry-after")
PROTOCOL_PATH = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*/)*[A-Za-z0-9_][A-Za-z0-9._-]*|")
"""What the protocol's paths are made of: nothing that could lead elsewhere, or be read as another part of a URL."""


def _url(request: Request) -> str:
    return str(request.base_url).rstrip("/")


@router.get("/v1/endpoints")
async def list_endpoints(request: Request, here: Here, who: ReadsModels) -> Page[EndpointView]:
    """The endpoints."""
    return Page(items=await here.read(lambda conn: reads.endpoints(conn, who.tenant, _url(request))))


@router.get("/v1/endpoints/{name}")
async def get_endpoint(name: Name, request: Request, here: Here, who: ReadsModels) -> EndpointView:
    """One endpoint."""
    return (await here.read(lambda conn: reads.endpoints(conn, who.tenant, _url(request), name)))[0]


@router.delete("/v1/endpoints/{name}", status_code=202)
async def delete_endpoint(name: Name, request: Request, here: Here, who: WritesJobs) -> EndpointView:
    """Take an endpoint down."""

    def work(conn: Any) -> dict[str, Any]:
        def delete(c: Any) -> dict[str, Any]:
            return endpoints.delete(c, who, name, _url(request)).model_dump(mode="json")

        return once(conn, request, who.tenant, b"", delete)

    return EndpointView.model_validate(await here.write(work))


@router.get("/v2", include_in_schema=False)
@router.get("/v2/{path:path}", include_in_schema=False)
@router.post("/v2/{path:path}", include_in_schema=False)
async def infer(request: Request, here: Here, who: Infers, path: str = "") -> Response:
    """Pass a call of the Open Inference Protocol on to the inference service, and its answer back."""
    if not PROTOCOL_PATH.fullmatch(path):
        raise NotFound(f"the inference protocol has no path {path[:80]!r}")
    headers = {name: value for name, value in request.headers.items() if name in PASSED_ON}
    try:
        answer = await here.inference.request(
            request.method, f"/v2/{path}" if path else "/v2", content=await request.body(), headers=headers
        )
    except httpx.TransportError:
        raise Unavailable("the inference service is not reachable at present") from None
    back = {name: value for name, value in answer.headers.items() if name in PASSED_BACK}
    return Response(answer.content, answer.status_code, back)
