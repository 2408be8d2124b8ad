"""The proxy does to a connection what it says, and counts it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from tests.chaos.faults import LATENCY_S, disturb
from tests.chaos.proxy import Proxy
from tests.chaos.schedule import Fault

Work = Callable[[Proxy, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def through(work: Work) -> None:
    """Run `work` on a connection to a server that sends back what it is sent."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def run() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        proxy = Proxy(server.sockets[0].getsockname()[1])
        await proxy.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            await work(proxy, reader, writer)
        finally:
            writer.close()
            await proxy.stop()
            server.close()

    asyncio.run(run())


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, data: bytes) -> float:
    """The seconds until it all has come back."""
    began = time.monotonic()
    writer.write(data)
    assert await reader.readexactly(len(data)) == data
    return time.monotonic() - began


def test_latency_slices_and_a_partition_change_no_byte_and_end() -> None:
    async def work(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for kind, at_least_s in (("latency", 2 * LATENCY_S), ("slices", 0.0), ("partition", 0.3)):
            fault = asyncio.create_task(disturb(proxy, Fault(0.0, kind, lasts_s=0.5)))
            await asyncio.sleep(0.1)
            assert await ask(reader, writer, bytes(range(256)) * 4) >= at_least_s, kind
            assert await fault > 0, kind
        await ask(reader, writer, b"calm")

    through(work)


def test_a_reset_ends_the_connection_and_not_the_proxy() -> None:
    async def work(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ask(reader, writer, b"before")
        assert await disturb(proxy, Fault(0.0, "reset")) == 1
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        await ask(*await asyncio.open_connection("127.0.0.1", proxy.port), b"after")

    through(work)


def test_who_connects_during_a_partition_gets_through_when_it_ends() -> None:
    async def work(proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fault = asyncio.create_task(disturb(proxy, Fault(0.0, "partition", lasts_s=0.4)))
        await asyncio.sleep(0.1)
        assert await ask(*await asyncio.open_connection("127.0.0.1", proxy.port), b"x") >= 0.25
        assert await fault == 1

    through(work)
