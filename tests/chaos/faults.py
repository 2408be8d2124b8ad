"""Carries faults out on a running platform, and counts what each has really done."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import nats
import psutil
import redis.asyncio as redis
from nats.errors import Error as NatsError
from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from sextant_shared import queue
from sextant_shared.contracts.specs import CELERY_KINDS
from tests.chaos.inbox import Inbox, quiet
from tests.chaos.platform import Platform
from tests.chaos.proxy import Proxy
from tests.chaos.recovery import Struck
from tests.chaos.schedule import Fault
from tests.chaos.workload import Clients

DOUBLED = 0.2
LINK_KINDS = ("latency", "slices", "reset", "partition")
LATENCY_S, SLICE_PAUSE_S = 0.15, 0.002
AGAIN_WITHIN_S = 60.0
SLOW_WITHIN_S = 20.0


class Striker:
    """Strikes one platform; `effects` counts by kind what was seen to happen, `skipped` says what could not be done."""

    def __init__(self, platform: Platform, engine: Engine, clients: Clients, inbox: Inbox, rng: Random) -> None:
        self._platform, self._engine, self._clients, self._inbox = platform, engine, clients, inbox
        self._rng = rng
        self.strikes: list[Struck] = []
        self.effects: Counter[str] = Counter()
        self.skipped: dict[str, str] = {}

    async def run(self, faults: list[Fault]) -> None:
        """Each at its time, until the last is over."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for fault in faults:
                await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
                tasks.create_task(self._strike(fault))

    async def _strike(self, fault: Fault) -> None:
        deeds: dict[str, Callable[[Fault], Awaitable[int]]] = {
            "kill": lambda fault: self._kill(fault.target, signal.SIGKILL),
            "stop": self._stop,
            "flush": self._flush,
            "delete-stream": self._delete_stream,
            # The immediate shutdown: every backend ends where it stands, and the start afterwards recovers.
            "crash-database": lambda fault: self._kill("postgres", signal.SIGQUIT),
            "duplicate": self._duplicate,
            "fill-disk": self._fill_disk,
            "slow-consumer": self._slow_consumer,
        }
        deeds |= dict.fromkeys(LINK_KINDS, lambda fault: disturb(self._platform.links[fault.target], fault))
        self.strikes.append(Struck(fault, time.time()))
        async with asyncio.timeout(fault.lasts_s + AGAIN_WITHIN_S):
            self.effects[fault.kind] += await deeds[fault.kind](fault)

    async def _kill(self, name: str, number: signal.Signals) -> int:
        """1 when the process has gone and another has taken its place."""
        old = await self._living(name)
        with contextlib.suppress(ProcessLookupError):
            os.kill(old, number)
        until = time.monotonic() + AGAIN_WITHIN_S
        while self._platform.pid(name) == old:
            if time.monotonic() > until:
                return 0
            await asyncio.sleep(0.05)
        return 1

    async def _living(self, name: str) -> int:
        """The process of this name; it may be about to start again."""
        while (pid := self._platform.pid(name)) is None or not psutil.pid_exists(pid):
            await asyncio.sleep(0.05)
        return pid

    async def _stop(self, fault: Fault) -> int:
        """A frozen host: the process and all below it stand still. How many were seen to."""
        root = psutil.Process(await self._living(fault.target))
        frozen = [root, *root.children(recursive=True)]
        for process in frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        await asyncio.sleep(0.05)
        stopped = sum(_state(process) == psutil.STATUS_STOPPED for process in frozen)
        try:
            await asyncio.sleep(fault.lasts_s)
        finally:
            for process in frozen:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()
        return int(stopped > 0)

    async def _flush(self, fault: Fault) -> int:
        """How many keys Valkey has lost."""
        # What a queue holds when it is emptied is up to chance: a message again for each of the last jobs.
        await asyncio.to_thread(self._send_again, 1.0)
        return await flush(self._platform.direct.redis_url)

    async def _delete_stream(self, fault: Fault) -> int:
        """How many files of NATS were deleted while it was down."""
        killed = asyncio.create_task(self._kill("nats", signal.SIGKILL))
        await asyncio.sleep(0.02)
        store = self._platform.home.path / "nats"
        files = sum(path.is_file() for path in store.rglob("*"))
        for path in store.iterdir():
            shutil.rmtree(path, ignore_errors=True)
        return files * await killed

    async def _duplicate(self, fault: Fault) -> int:
        """How many messages of the queue and of the stream were sent a second time; clients double theirs meanwhile."""
        sent, until = 0, time.monotonic() + fault.lasts_s
        self._clients.doubling = DOUBLED
        while time.monotonic() < until:
            sent += await asyncio.to_thread(self._send_again, DOUBLED)
            sent += await self._publish_again()
            await asyncio.sleep(0.3)
        self._clients.doubling = 0.0
        return sent

    def _send_again(self, share: float) -> int:
        query = text("SELECT id, kind FROM jobs WHERE kind = ANY(:kinds) ORDER BY id DESC LIMIT 40")
        app = queue.build_queue(self._platform.direct.redis_url)
        try:
            with self._engine.connect() as conn:
                rows = conn.execute(query, {"kinds": list(CELERY_KINDS)}).all()
            chosen = [row for row in rows if self._rng.random() < share]
            for row in chosen:
                queue.send(app, row.kind, str(row.id))
        except Exception:  # noqa: BLE001 - the broker or the store may be down: then there is nothing to send
            return 0
        finally:
            app.close()
        return len(chosen)

    async def _publish_again(self) -> int:
        """Under their own message ids, as a relay does that died before it could mark them."""
        query = text(
            "SELECT msg_id, subject, payload::text FROM outbox WHERE published_at IS NOT NULL ORDER BY id DESC LIMIT 40"
        )
        number = 0
        try:
            with self._engine.connect() as conn:
                rows = conn.execute(query).all()
            client = await nats.connect(
                self._platform.direct.nats_url, connect_timeout=1, allow_reconnect=False, error_cb=quiet
            )
            try:
                for row in rows:
                    if self._rng.random() < DOUBLED:
                        headers = {"Nats-Msg-Id": row.msg_id}
                        await client.jetstream(timeout=1).publish(row.subject, row.payload.encode(), headers=headers)
                        number += 1
            finally:
                await client.close()
        except (SQLAlchemyError, NatsError, OSError, TimeoutError):
            pass
        return number

    async def _fill_disk(self, fault: Fault) -> int:
        """How many disks were seen to be full."""
        if not self._platform.disks:
            self.skipped["fill-disk"] = "only root can mount a small file system"
            return 0
        fillers = [disk / "filler" for disk in self._platform.disks]
        full = 0
        try:
            until = time.monotonic() + fault.lasts_s
            while time.monotonic() < until:
                found = sum([await asyncio.to_thread(_fill, filler) for filler in fillers])
                full = max(full, found)
                await asyncio.sleep(0.1)
        finally:
            for filler in fillers:
                filler.unlink(missing_ok=True)
        return full

    async def _slow_consumer(self, fault: Fault) -> int:
        """How many messages were delivered again, as they were not acknowledged in time."""
        before = self._inbox.redelivered
        self._inbox.slow = True
        until = time.monotonic() + fault.lasts_s
        rewound = False
        # It cannot be slow before something comes: its server may be away, and all jobs may have ended.
        while time.monotonic() < until or self._inbox.redelivered == before:
            rewound = rewound or await self._inbox.rewind()
            await asyncio.sleep(0.1)
            if time.monotonic() > until + SLOW_WITHIN_S:
                break
        self._inbox.slow = False
        return self._inbox.redelivered - before


async def disturb(proxy: Proxy, fault: Fault) -> int:
    """Let a link misbehave; how many connections, chunks or slices met with it."""
    link, before = proxy.link, _met(proxy)
    match fault.kind:
        case "reset":
            while not (ended := proxy.reset()):
                await asyncio.sleep(0.05)  # its server may be about to start again
            return ended
        case "latency":
            link.latency_s = LATENCY_S
        case "slices":
            link.slice_pause_s = SLICE_PAUSE_S
        case _:
            link.open.clear()
    until = time.monotonic() + fault.lasts_s
    # A link can be quiet for a while: its server may be away.
    while time.monotonic() < until or (not _met(proxy, before) and time.monotonic() < until + SLOW_WITHIN_S):
        await asyncio.sleep(0.05)
    met = _met(proxy, before)
    match fault.kind:
        case "latency":
            link.latency_s = 0.0
        case "slices":
            link.slice_pause_s = 0.0
        case _:
            link.open.set()
    return met


def _met(proxy: Proxy, before: int = 0) -> int:
    return proxy.link.delayed + proxy.link.sliced + proxy.link.held - before


async def flush(redis_url: str) -> int:
    """Empty the server at this URL, as soon as it is there; how many keys it has lost."""
    client = redis.Redis.from_url(redis_url.replace("redis+socket", "unix"))
    try:
        while True:
            with contextlib.suppress(RedisError):
                keys = int(await client.dbsize())
                await client.flushall()
                return keys
            await asyncio.sleep(0.1)
    finally:
        await client.aclose()


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return "gone"


def _fill(path: Path) -> int:
    """Write until no more goes; 1 where the disk is full."""
    try:
        with path.open("ab", buffering=0) as stream:
            while True:
                stream.write(b"\0" * (1 << 20))
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        return 1
