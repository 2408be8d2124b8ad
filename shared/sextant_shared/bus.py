"""NATS: events and commands between processes. Lifecycle events are kept by JetStream; the rest are plain messages."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit
from uuid import UUID

import nats
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError

from sextant_shared.contracts.messages import WAKE, Wake

log = structlog.get_logger(__name__)

HOUR_S = 3600.0
EVENTS = "EVENTS"
EVENTS_KEPT_S = 24 * HOUR_S
"""The history of a job is its audit log, for good; its events are news."""
PUBLISH_TIMEOUT_S = 2.0
STREAMS = (
    StreamConfig(
        name=EVENTS,
        subjects=["jobs.>", "keys.>", "endpoints.>", "uploads.>", "nodes.>"],
        storage=StorageType.FILE,
        # A full stream refuses the relay, which waits with the rows in the outbox: back-pressure, not loss.
        discard=DiscardPolicy.NEW,
        max_bytes=2 * 2**30,
        max_age=EVENTS_KEPT_S,
        duplicate_window=HOUR_S,
    ),
    StreamConfig(
        name="LIVE",
        subjects=["live.>"],
        storage=StorageType.FILE,
        discard=DiscardPolicy.OLD,
        max_bytes=512 * 2**20,
        max_age=7 * 24 * HOUR_S,
        max_msgs_per_subject=10_000,
    ),
)

Handler = Callable[[str, bytes], Awaitable[None]]


class Bus:
    """A connection that heals itself. What is published while the server is away may be lost: see the outbox."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT_S)
        self._unanswered: float | None = None

    @classmethod
    async def connect(cls, url: str, name: str) -> Bus:
        """Connect and keep trying for ever; the first connection may take as long as the server does to start."""

        told: set[str] = set()

        async def once(error: Exception) -> None:
            # Each reason once: the attempts go on twice a second.
            reason = str(error) or type(error).__name__
            (log.debug if reason in told else log.warning)("bus.unreachable", error=reason)
            told.add(reason)

        client = await nats.connect(
            url,
            name=name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.5,
            ping_interval=30,
            error_cb=once,
            allow_reconnect=True,
            inbox_prefix=f"_INBOX.{urlsplit(url).username or 'any'}".encode(),
        )
        return cls(client)

    @property
    def connected(self) -> bool:
        """Whether the server is reachable at this moment."""
        return self._client.is_connected

    async def lacks_events(self) -> bool:
        """Whether the stream of lifecycle events is missing: the server is new, or has lost its store."""
        try:
            await self._stream.stream_info(EVENTS)
        except NotFoundError:
            return True
        return False

    async def ensure_streams(self) -> None:
        """Make the streams that are missing; also after the server lost its store."""
        for config in STREAMS:
            try:
                await self._stream.update_stream(config)
            except NatsError:
                await self._stream.add_stream(config)

    async def publish_once(self, subject: str, payload: bytes, message_id: str) -> None:
        """Publish to JetStream and wait for its acknowledgement; a repeated `message_id` is kept once."""
        try:
            await self._stream.publish(subject, payload, headers={"Nats-Msg-Id": message_id})
        except TimeoutError:
            self._unanswered = self._unanswered or time.monotonic()
            raise
        self._unanswered = None

    @property
    def unanswered_s(self) -> float:
        """For how long no publication has been acknowledged, since one first was not."""
        return time.monotonic() - self._unanswered if self._unanswered else 0.0

    async def drop_events(self) -> None:
        """Delete the stream of lifecycle events, with what it holds."""
        await self._stream.delete_stream(EVENTS)
        self._unanswered = None

    async def publish(self, subject: str, payload: bytes = b"") -> None:
        """Publish without waiting."""
        if self._client.is_connected:
            await self._client.publish(subject, payload)

    async def wake(self, queued: Iterable[tuple[UUID, str]] = ()) -> None:
        """Tell the scheduler that there may be something to do; `queued`: jobs that wait for a worker, their kinds."""
        await self.publish(WAKE, Wake(queued=list(queued)).model_dump_json().encode())

    async def subscribe(self, subject: str, handler: Handler, group: str = "") -> Callable[[], Awaitable[None]]:
        """Call `handler(subject, payload)` for each message from now on; returns the way to stop it.

        Of the subscribers of one `group`, each message goes to one.
        """

        async def receive(message: Msg) -> None:
            try:
                await handler(message.subject, message.data)
            except Exception:
                log.exception("bus.handler_failed", subject=message.subject)

        subscription = await self._client.subscribe(subject, queue=group, cb=receive)
        return subscription.unsubscribe

    async def history(self, subject: str, limit: int) -> list[bytes]:
        """The kept messages of a `live.` subject, oldest first, at most `limit` of the newest."""
        messages: list[bytes] = []
        try:
            consumer = await self._stream.subscribe(subject, ordered_consumer=True)
            try:
                info = await consumer.consumer_info()
                # The server has begun to send: what it has sent so far is no longer pending.
                total = (info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)
                skip = max(0, total - limit)
                for index in range(total):
                    message = await consumer.next_msg(timeout=2)
                    if index >= skip:
                        messages.append(message.data)
            finally:
                await consumer.unsubscribe()
        except (NatsError, TimeoutError):
            log.debug("bus.history_unavailable", subject=subject)
        return messages

    async def close(self) -> None:
        """Send what is buffered and disconnect."""
        if self._client.is_connected:
            await self._client.drain()
        else:
            await self._client.close()


class ThreadedBus:
    """The bus for threads: an event loop in a thread of its own."""

    def __init__(self, url: str, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._bus: Bus | None = None
        self._reached: asyncio.Future[Bus] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(url, name), name="bus", daemon=True)
        self._thread.start()

    def _run(self, url: str, name: str) -> None:
        async def start() -> None:
            self._bus = await Bus.connect(url, name)
            self._reached.set_result(self._bus)

        self._starting = self._loop.create_task(start())
        self._loop.run_forever()

    @property
    def connected(self) -> bool:
        """Whether the server is reachable at this moment."""
        return self._bus is not None and self._bus.connected

    def publish(self, subject: str, payload: bytes = b"") -> None:
        """Publish without waiting; dropped while the server is away."""
        if self._bus is not None:
            asyncio.run_coroutine_threadsafe(self._bus.publish(subject, payload), self._loop)

    def wake(self) -> None:
        """Tell the scheduler that there may be something to do."""
        self.publish(WAKE)

    def subscribe(self, subject: str, handler: Callable[[str, bytes], None]) -> None:
        """Call `handler` on the bus's thread for each message, from when the server is reached; it must return at once.

        Returns without waiting: a server that is away at the start must not keep its clients from starting.
        """

        async def call(subject: str, payload: bytes) -> None:
            handler(subject, payload)

        async def when_there() -> None:
            bus = await asyncio.shield(self._reached)
            await bus.subscribe(subject, call)

        asyncio.run_coroutine_threadsafe(when_there(), self._loop)

    def close(self) -> None:
        """Send what is buffered and stop the thread."""
        if self._bus is not None:
            asyncio.run_coroutine_threadsafe(self._bus.close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
