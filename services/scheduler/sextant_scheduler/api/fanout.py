"""One subscription of the process, many listeners: events and live messages by the root job that they belong to."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog

from sextant_shared.bus import Bus
from sextant_shared.contracts.messages import JobEvent
from sextant_shared.lifecycle.states import State

log = structlog.get_logger(__name__)
MAX_QUEUED = 1000


def live_body(what: str, payload: bytes) -> dict[str, Any]:
    """The body of a `live.` message. Raises ValueError for what no worker sends."""
    try:
        body = json.loads(payload)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(body, dict) or (what == "log" and not isinstance(body.get("text"), str)):
        raise ValueError("neither progress nor a log line")
    UUID(str(body.get("job_id")))
    return body


@dataclass(frozen=True, slots=True)
class Message:
    """What a listener gets: `state`, `progress` or `log`, and its body."""

    what: str
    body: dict[str, Any]


class Fanout:
    """Listeners that are too slow lose the oldest messages: they ask the store for the state in any case."""

    def __init__(self) -> None:
        self._listeners: dict[UUID, set[asyncio.Queue[Message]]] = defaultdict(set)

    async def start(self, bus: Bus) -> None:
        """Subscribe to all that listeners may ask for."""
        await bus.subscribe("jobs.>", self._on_event)
        await bus.subscribe("live.>", self._on_live)

    @contextmanager
    def listen(self, root_id: UUID) -> Iterator[asyncio.Queue[Message]]:
        """A queue of the messages about one root job and all that it made."""
        queue: asyncio.Queue[Message] = asyncio.Queue(MAX_QUEUED)
        self._listeners[root_id].add(queue)
        try:
            yield queue
        finally:
            self._listeners[root_id].discard(queue)
            if not self._listeners[root_id]:
                del self._listeners[root_id]

    async def _on_event(self, subject: str, payload: bytes) -> None:
        try:
            event = JobEvent.model_validate_json(payload)
            State(event.state)
        except ValueError as error:
            log.warning("fanout.bad_event", subject=subject, error=str(error)[:300])
            return
        self._send(event.root_id, Message("state", json.loads(payload)))

    async def _on_live(self, subject: str, payload: bytes) -> None:
        try:
            _, root_id, _, what = subject.split(".")
            if UUID(root_id) in self._listeners:
                self._send(UUID(root_id), Message(what, live_body(what, payload)))
        except ValueError as error:
            log.warning("fanout.bad_message", subject=subject, error=str(error)[:300])

    def _send(self, root_id: UUID, message: Message) -> None:
        for queue in self._listeners.get(root_id, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)
