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

from sextant_shared.bus import Bus

MAX_QUEUED = 1000


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
        body = json.loads(payload)
        self._send(UUID(body["root_id"]), Message("state", body))

    async def _on_live(self, subject: str, payload: bytes) -> None:
        _, root_id, _, what = subject.split(".")
        if UUID(root_id) in self._listeners:
            self._send(UUID(root_id), Message(what, json.loads(payload)))

    def _send(self, root_id: UUID, message: Message) -> None:
        for queue in self._listeners.get(root_id, ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(message)
