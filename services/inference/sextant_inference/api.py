"""The Open Inference Protocol v2 over HTTP."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from importlib.metadata import version as installed
from typing import Any

import structlog
from fastapi import Depends, FastAPI, Request, Response
from starlette.exceptions import HTTPException

from sextant_inference import protocol
from sextant_inference.metrics import InferenceMetrics
from sextant_inference.runtime.models import Models
from sextant_shared import errors as e

log = structlog.get_logger(__name__)
STATUS: dict[type[e.SextantError], int] = {
    e.InvalidInput: 422,
    e.NotFound: 404,
    e.Unauthenticated: 401,
    e.Forbidden: 403,
    e.PayloadTooLarge: 413,
    e.RateLimited: 429,
    e.Unavailable: 503,
}
Authorise = Callable[[Request], Awaitable[str]]
"""Raises unless the request may pass; the tenant whose endpoints it may ask for."""


def create(models: Models, authorise: Authorise, metrics: InferenceMetrics, max_body_bytes: int) -> FastAPI:
    """The application. Only health is open to all."""
    app = FastAPI(title="Sextant inference", openapi_url=None)
    _health(app)
    _metadata(app, models, authorise)
    _infer(app, models, metrics, authorise, max_body_bytes)
    app.add_exception_handler(e.SextantError, _answer_error)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(Exception, _answer_unexpected)
    return app


def _health(app: FastAPI) -> None:
    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        return {"ready": True}


def _metadata(app: FastAPI, models: Models, authorise: Authorise) -> None:
    tenant_of = Depends(authorise)

    @app.get("/v2", dependencies=[tenant_of])
    async def server() -> dict[str, Any]:
        return {"name": "sextant", "version": installed("sextant-platform"), "extensions": ["binary_tensor_data"]}

    @app.get("/v2/models/{name}")
    @app.get("/v2/models/{name}/versions/{version}")
    async def model(name: str, version: str | None = None, tenant: str = tenant_of) -> dict[str, Any]:
        served = models.get(tenant, name, version)
        return {
            "name": name,
            "versions": [str(served.wanted.version)],
            "platform": "onnx_onnxv1",
            "inputs": [spec.plain() for spec in served.session.inputs],
            "outputs": [spec.plain() for spec in served.session.outputs],
            "parameters": {
                "classes": served.session.about.get("classes", []),
                **{key: served.session.about[key] for key in ("out_of_scope",) if key in served.session.about},
            },
        }

    @app.get("/v2/models/{name}/ready")
    @app.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None, tenant: str = tenant_of) -> dict[str, Any]:
        models.get(tenant, name, version)
        return {"name": name, "ready": True}


def _infer(app: FastAPI, models: Models, metrics: InferenceMetrics, authorise: Authorise, max_body_bytes: int) -> None:
    tenant_of = Depends(authorise)

    @app.post("/v2/models/{name}/infer")
    @app.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str | None = None, tenant: str = tenant_of) -> Response:
        served = models.get(tenant, name, version)
        body = await _body(request, max_body_bytes)
        try:
            asked = protocol.read(body, request.headers.get("inference-header-content-length"), served.session)
            outputs = await models.infer(served, asked.tensors)
        except e.SextantError as error:
            metrics.requests.labels(name, _status(error)).inc()
            raise
        content, headers = protocol.write(asked, served.session, name, served.wanted.version, outputs)
        metrics.requests.labels(name, 200).inc()
        return Response(content, 200, headers)


async def _body(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > limit:
            raise e.PayloadTooLarge(f"a request may have {limit} bytes")
        parts.append(part)
    return b"".join(parts)


def _status(error: e.SextantError) -> int:
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 500)


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, e.SextantError)  # noqa: S101 - registered for this class alone
    where = f"{error.field}: " if error.field else ""
    accepted = f" (accepted: {error.accepted})" if error.accepted else ""
    headers = {"Retry-After": "1"} if isinstance(error, e.TransientError) else {}
    body = json.dumps({"error": f"{where}{error.message}{accepted}"})
    return Response(body, _status(error), headers, "application/json")


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - likewise
    return Response(json.dumps({"error": str(error.detail)}), error.status_code, media_type="application/json")


async def _answer_unexpected(request: Request, error: Exception) -> Response:
    log.error("inference.unexpected", exc_info=error)
    return Response('{"error": "an unexpected error; it was logged"}', 500, media_type="application/json")
