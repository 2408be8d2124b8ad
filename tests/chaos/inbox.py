"""A consumer of the lifecycle events that keeps an inbox: each message takes effect once, however often it comes."""

from __future__ import annotations

import asyncio
import contextlib

import nats
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig

ACK_WAIT_S = 1.0
STREAM, NAME = "EVENTS", "chaos-inbox"


async def quiet(error: Exception) -> None:
    """That the server is away is no news here."""


class Inbox:
    """Reads the stream as a service of somebody else's would: durably, and acknowledging."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.slow = False
        """Whether it acknowledges too late."""
        self.seen: set[str] = set()
        self.redelivered = 0

    async def run(self) -> None:
        """Until cancelled; from the beginning again where server or stream were lost."""
        while True:
            with contextlib.suppress(NatsError, OSError, TimeoutError):
                await self._consume()
            await asyncio.sleep(0.3)

    async def rewind(self) -> bool:
        """Have the stream read from its beginning once more; False where its server is away."""
        with contextlib.suppress(NatsError, OSError, TimeoutError):
            client = await nats.connect(self._url, allow_reconnect=False, connect_timeout=2, error_cb=quiet)
            try:
                return await client.jetstream(timeout=2).delete_consumer(STREAM, NAME)
            finally:
                await client.close()
        return False

    async def _consume(self) -> None:
        client = await nats.connect(self._url, allow_reconnect=False, connect_timeout=2, error_cb=quiet)
        try:
            config = ConsumerConfig(ack_wait=ACK_WAIT_S, max_ack_pending=200)
            stream = client.jetstream(timeout=2)
            subscription = await stream.pull_subscribe("jobs.>", durable=NAME, stream=STREAM, config=config)
            while client.is_connected:
                try:
                    messages = await subscription.fetch(50, timeout=1)
                except TimeoutError:
                    # Nothing new, or no consumer any more.
                    await subscription.consumer_info()
                    continue
                await self._take(messages)
        finally:
            await client.close()

    async def _take(self, messages: list[Msg]) -> None:
        if self.slow:
            await asyncio.sleep(1.5 * ACK_WAIT_S)
        for message in messages:
            self.redelivered += message.metadata.num_delivered > 1
            self.seen.add((message.headers or {}).get("Nats-Msg-Id", ""))
            await message.ack()
