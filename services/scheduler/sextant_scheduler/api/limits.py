"""What a request may cost before it is looked at: the size of its body. And what it did cost, for the metrics."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sextant_scheduler.api.problems import answer, problem_of
from sextant_scheduler.metrics import ApiMetrics
from sextant_shared.errors import PayloadTooLarge

# Uploads have a limit of their own, and inference passes tensors.
OWN_LIMIT = ("/v1/uploads/", "/v2/")
OWN_LIMIT_BYTES = 64 * 2**20


class Limits:
    """ASGI middleware: refuses bodies over `max_body_bytes`, announced or not, and times every answer."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, metrics: ApiMetrics) -> None:
        self._app = app
        self._max = max_body_bytes
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = OWN_LIMIT_BYTES if scope["path"].startswith(OWN_LIMIT) else self._max
        began, status, seen = time.perf_counter(), 500, 0
        too_large = PayloadTooLarge(f"a body may have {limit} bytes here")

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                raise too_large
            return message

        async def watched(message: Message) -> None:
            nonlocal status
            if seen > limit:
                return  # whatever the application makes of the error: the answer is ours
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            length = dict(scope["headers"]).get(b"content-length", b"0")
            if length.isdigit() and int(length) > limit:
                raise PayloadTooLarge(f"a body may have {limit} bytes here; this one has {int(length)}")
            await self._app(scope, limited, watched)
            if seen > limit:
                raise too_large
        except PayloadTooLarge as error:
            seen = 0
            await answer(problem_of(error))(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "(none)")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
