"""Arrivals that do not wait for answers: a Poisson stream, as clients make it that know nothing of each other.

A request's latency counts from when it was due, not from when it was sent: what a slow server keeps from being sent is
part of it ("coordinated omission" is what leaving it out is called).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import cast
from urllib.parse import urlsplit

PATIENCE_S = 10.0
"""How long the last answers are waited for."""
UNANSWERED, CUT = 0, 1
"""The status of a request that got no answer in time, and of one whose connection was closed without one."""


@dataclass(slots=True)
class Answer:
    """What became of one request; times in seconds since the stream began."""

    due_s: float
    sent_s: float = 0.0
    got_s: float = 0.0
    status: int = UNANSWERED
    retry_after: bool = False

    @property
    def latency_s(self) -> float:
        """From when it was due."""
        return self.got_s - self.due_s


@dataclass(slots=True)
class _Stream:
    host: str
    port: int
    make: Callable[[int], bytes]
    loop: asyncio.AbstractEventLoop
    began: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    idle: deque[_Connection] = field(default_factory=deque)
    waiting: deque[int] = field(default_factory=deque)
    over: bool = False

    def now(self) -> float:
        return self.loop.time() - self.began

    def arrive(self, number: int) -> None:
        """A request is due: it goes out on a connection that is free, or waits for one."""
        if self.idle:
            self.idle.popleft().send(number)
        else:
            self.waiting.append(number)

    async def connect(self) -> None:
        """One connection more."""
        _, made = await self.loop.create_connection(lambda: _Connection(self), self.host, self.port)
        self.free(made)

    def free(self, connection: _Connection) -> None:
        """A connection has its answer."""
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.idle.append(connection)


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self, stream: _Stream) -> None:
        self._stream = stream
        self._number: int | None = None
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)

    def send(self, number: int) -> None:
        self._number = number
        self._stream.answers[number].sent_s = self._stream.now()
        self._transport.write(self._stream.make(number))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found or self._number is None:
            return
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
        if len(rest) < length:
            return
        answer = self._stream.answers[self._number]
        answer.got_s, answer.status = self._stream.now(), int(head[9:12])
        answer.retry_after = any(line.startswith(b"retry-after:") for line in lines)
        self._buffer, self._number = b"", None
        self._stream.free(self)

    def connection_lost(self, error: Exception | None) -> None:
        if self._number is not None:
            self._stream.answers[self._number].status = CUT
        if self in self._stream.idle:
            self._stream.idle.remove(self)
        if not self._stream.over:
            # Servers close what was idle for some seconds.
            self._stream.loop.create_task(self._stream.connect())


async def open_loop(
    url: str, make: Callable[[int], bytes], *, per_second: float, seconds: float, connections: int, seed: int = 1
) -> list[Answer]:
    """Send `make(number)`, a whole HTTP request, at random times with this mean rate; what became of each.

    So many connections are open from the beginning, each used for one request at a time.
    """
    rng, due, at = Random(seed), [], 0.0
    while (at := at + rng.expovariate(per_second)) < seconds:
        due.append(at)
    parts = urlsplit(url)
    stream = _Stream(parts.hostname or "", parts.port or 80, make, asyncio.get_running_loop())
    stream.answers = [Answer(moment) for moment in due]
    await asyncio.gather(*(stream.connect() for _ in range(connections)))
    stream.began = stream.loop.time()
    number = 0
    while number < len(due):
        await asyncio.sleep(max(0.0, due[number] - stream.now()))
        while number < len(due) and due[number] <= stream.now():
            stream.arrive(number)
            number += 1
    until = stream.now() + PATIENCE_S
    while stream.now() < until and any(answer.status == UNANSWERED for answer in stream.answers):
        await asyncio.sleep(0.05)
    stream.over = True
    return stream.answers
