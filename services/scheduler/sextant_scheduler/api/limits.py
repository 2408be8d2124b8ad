"""What a request may cost before it is looked at: its size, its depth, the time it takes to arrive, and how many run.

And what it did cost, for the metrics.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sextant_scheduler.api.problems import answer_to
from sextant_scheduler.metrics import ApiMetrics
from sextant_shared.errors import InvalidInput, PayloadTooLarge, RateLimited, SextantError, TooSlow

# Uploads have a limit of their own, and inference passes tensors: these bodies go through, the others are read here.
OWN_LIMIT = ("/v1/uploads/", "/v2/")
OWN_LIMIT_BYTES = 64 * 2**20
BODY_S, LARGE_BODY_S = 30.0, 300.0
"""How long a body may take to arrive, and one that has a limit of its own."""
MAX_DIGITS = 18
MAX_DEPTH = 64
"""Of nested lists and objects in a body."""
STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
UNWATCHED = ("/v1/health/",)
"""Answered however busy the process is: else it would be taken for dead, and started again."""


BUSY = "the API has as many requests as it can answer in time; try again"


class Room:
    """So many requests at a time. Those beyond are told at once to come again: to let them wait helps nobody."""

    def __init__(self, places: int) -> None:
        self._free = places

    @property
    def full(self) -> bool:
        """Whether no place is free."""
        return self._free <= 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place. Raises RateLimited where none is free."""
        if self.full:
            raise RateLimited(BUSY)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class Limits:
    """ASGI middleware: refuses what is too large, too deep, too slow or too much, and times every answer."""

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, max_in_flight: int, max_transfers: int, metrics: ApiMetrics
    ) -> None:
        self._app = app
        self._max = max_body_bytes
        self._metrics = metrics
        self._calls = Room(max_in_flight)
        self._transfers = Room(max_transfers)
        self._busy = answer_to(RateLimited(BUSY))
        self._refused = metrics.requests.labels("(none)", 429)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        room = self._transfers if path.startswith(OWN_LIMIT) or path.endswith("/stream") else self._calls
        if room.full and not path.startswith(UNWATCHED):
            # As cheap as can be: what refusing costs is taken from those that are served.
            await self._busy(scope, receive, send)
            self._refused.inc()
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._serve(room, scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "(none)")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)

    async def _serve(self, room: Room, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["path"].startswith(UNWATCHED):
                await self._app(scope, receive, send)
            elif room is self._transfers:
                with room.place():
                    await self._pass_on(scope, receive, send)
            else:
                body = await self._body(scope, receive)
                if body is None:
                    return
                # Only now: a body that takes its time holds no place.
                with room.place():
                    await self._app(scope, _replay(body, receive), send)
        except SextantError as error:
            await answer_to(error)(scope, receive, send)

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body, or None where the client has left. Raises PayloadTooLarge, TooSlow, InvalidInput."""
        _check_announced(scope, self._max)
        parts: list[bytes] = []
        size, until = 0, time.monotonic() + BODY_S
        while True:
            message = await _next(receive, until)
            if message["type"] != "http.request":
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            _check_size(size, self._max)
            if not message.get("more_body"):
                break
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        check_depth(body)
        return body

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the application read the body as it comes; what it makes of a refusal is not sent."""
        seen, whole = 0, False
        refusal: SextantError | None = None
        until = time.monotonic() + LARGE_BODY_S

        async def limited() -> Message:
            nonlocal seen, whole, refusal
            if whole:
                return await receive()  # the client's leaving
            try:
                message = await _next(receive, until)
                seen += len(message.get("body", b""))
                _check_size(seen, OWN_LIMIT_BYTES)
            except SextantError as error:
                refusal = error
                raise
            whole = not message.get("more_body")
            return message

        async def watched(message: Message) -> None:
            if refusal is None:
                await send(message)

        _check_announced(scope, OWN_LIMIT_BYTES)
        await self._app(scope, limited, watched)
        if refusal is not None:
            raise refusal


def check_depth(body: bytes) -> None:
    """Raise InvalidInput where lists and objects of a JSON text are nested deeper than MAX_DEPTH."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for found in STRING_OR_BRACKET.finditer(body):
        match found[0]:
            case b"[" | b"{":
                depth += 1
                if depth > MAX_DEPTH:
                    raise InvalidInput(
                        f"lists and objects are nested deeper than {MAX_DEPTH}", field="(body)", accepted="less depth"
                    )
            case b"]" | b"}":
                depth -= 1


def _check_announced(scope: Scope, limit: int) -> None:
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and (len(length) > MAX_DIGITS or int(length) > limit):
        raise PayloadTooLarge(f"a body may have {limit} bytes here; this one has {length[:MAX_DIGITS].decode()}")


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise PayloadTooLarge(f"a body may have {limit} bytes here")


async def _next(receive: Receive, until: float) -> Message:
    try:
        async with asyncio.timeout(max(0.0, until - time.monotonic())):
            return await receive()
    except TimeoutError:
        raise TooSlow() from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """What the application reads: the body, and after it what the connection has to tell."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
