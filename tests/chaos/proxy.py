"""A TCP proxy that misbehaves on demand: it delays, slices, stalls, and resets what goes through it.

After the toxics of Toxiproxy (Shopify, 2014). Bytes are never changed or dropped, as TCP would not: a partition holds
them back, and a reset ends the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

CHUNK = 1 << 16
SLICE = 64
"""Bytes at a time on a link that slices."""
Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def towards(target: Path | int) -> Dial:
    """How to reach a server: a Unix socket, or a port of loopback."""
    if isinstance(target, Path):
        return lambda: asyncio.open_unix_connection(str(target))
    return lambda: asyncio.open_connection("127.0.0.1", target)


@dataclass
class Link:
    """What happens to bytes now, and how often it has happened."""

    latency_s: float = 0.0
    slice_pause_s: float = 0.0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    """Unset while the two sides are parted."""
    delayed: int = 0
    sliced: int = 0
    held: int = 0
    """Chunks that waited, slices sent alone, and chunks or connections that met a partition."""

    def __post_init__(self) -> None:
        self.open.set()

    async def carry(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        """Pass a chunk on, as the link does it now."""
        if self.latency_s:
            self.delayed += 1
            await asyncio.sleep(self.latency_s)
        pieces = [data]
        if self.slice_pause_s:
            pieces = [data[at : at + SLICE] for at in range(0, len(data), SLICE)]
        for piece in pieces:
            if not self.open.is_set():
                self.held += 1
                await self.open.wait()
            writer.write(piece)
            await writer.drain()
            if self.slice_pause_s:
                self.sliced += 1
                await asyncio.sleep(self.slice_pause_s)


class Proxy:
    """In front of one server, on a port of loopback."""

    def __init__(self, target: Path | int) -> None:
        self._dial = towards(target)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.link = Link()
        self.port = 0

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Listen no more, and end every connection."""
        if self._server:
            self._server.close()
        self.link.open.set()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> int:
        """End every connection with a reset, both ways; how many there were."""
        for writer in self._writers:
            sock = writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                # Lingering for no time at all makes the end of a connection a reset. Unix sockets take no notice.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return len(self._writers) // 2

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.link.open.is_set():
                self.link.held += 1
                await self.link.open.wait()
            there_reader, there_writer = await self._dial()
        except OSError:
            writer.transport.abort()
            return
        finally:
            self._tasks.discard(task)
        pair = {writer, there_writer}
        self._writers |= pair
        self._tasks.add(task)
        try:
            # Cancelled only when all is over: whoever accepted the connection would make a fuss about it.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
        finally:
            self._writers -= pair
            self._tasks.discard(task)
            for each in pair:
                each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self.link.carry(data, writer)
            await self.link.open.wait()
            if writer.can_write_eof():
                writer.write_eof()
        except (OSError, RuntimeError):
            # One side is gone, and so is the connection.
            writer.transport.abort()
            raise ConnectionResetError from None
