"""A load generator that costs little: keep-alive HTTP/1.1 on plain sockets, one request at a time a client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Outcome:
    """Latencies of the requests that were answered with the status wanted, and the others by status."""

    latencies_s: list[float] = field(default_factory=list)
    failures: dict[int, int] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Rate over all clients."""
        return len(self.latencies_s) / self.seconds


async def closed_loop(
    url: str, make: Callable[[int], tuple[dict[str, str], bytes]], *, clients: int, seconds: float, status: int
) -> Outcome:
    """`clients` at once, each posting `make(number)` (headers, body) again and again for `seconds`."""
    parts = urlsplit(url)
    outcome = Outcome()
    numbers = iter(range(1 << 60))
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        while time.perf_counter() < end:
            headers, body = make(next(numbers))
            lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            began = time.perf_counter()
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            got = await _answer(reader)
            if got == status:
                outcome.latencies_s.append(time.perf_counter() - began)
            else:
                outcome.failures[got] = outcome.failures.get(got, 0) + 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    outcome.seconds = time.perf_counter() - began
    return outcome


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    await reader.readexactly(length)
    return int(head.split(b" ", 2)[1])
