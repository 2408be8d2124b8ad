"""The control process's work, with one to several copies at once."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import nats
import pytest
from nats.js.api import DiscardPolicy, StreamConfig
from prometheus_client import CollectorRegistry
from redis import Redis
from sqlalchemy import Engine, create_engine, select, text

from sextant.stack.running import RunningServers
from sextant.stack.servers import free_port
from sextant_scheduler.consumer import ControlLoop
from sextant_scheduler.handlers import control as handlers
from sextant_scheduler.handlers.control import Control
from sextant_scheduler.handlers.submission import new_job
from sextant_scheduler.metrics import ControlMetrics
from sextant_scheduler.settings import SchedulerSettings
from sextant_scheduler.store import control as store
from sextant_scheduler.store import reads
from sextant_shared import queue
from sextant_shared.bus import Bus
from sextant_shared.contracts.messages import WAKE, NodeAlive
from sextant_shared.contracts.specs import SPEC
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle import machine as m
from sextant_shared.queue import build_queue
from sextant_shared.store import tables as t
from sextant_shared.store.engine import connect_async, connect_autocommit

COPIES = 3


@pytest.fixture
def settings(servers: RunningServers, database_url: str, tmp_path: Path) -> SchedulerSettings:
    """Those of a control process on a database of its own."""
    return SchedulerSettings(
        database_url=database_url,
        redis_url=servers.urls.redis_url,
        nats_url=servers.urls.nats_url,
        artefacts_url=f"file://{tmp_path}",
        work_dir=tmp_path,
    )


@asynccontextmanager
async def control(settings: SchedulerSettings) -> AsyncIterator[Control]:
    """One copy."""
    engine = connect_async(settings.database_url, size=2)
    statements = connect_autocommit(settings.database_url, size=1)
    bus = await Bus.connect(settings.nats_url, "test")
    await bus.ensure_streams()
    yield Control(engine, statements, bus, build_queue(settings.redis_url), settings, Random(0))
    await bus.close()
    await statements.dispose()
    await engine.dispose()


def together(settings: SchedulerSettings, work: Callable[[Control], Awaitable[Any]]) -> list[Any]:
    """What several copies give that do `work` at once."""

    async def one() -> Any:
        async with control(settings) as copy:
            return await work(copy)

    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*(one() for _ in range(COPIES))))

    return asyncio.run(all_of_them())


def submit(engine: Engine, number: int = 1, **spec: Any) -> list[UUID]:
    """Accepted jobs."""
    parsed = SPEC.validate_python({"kind": "probe", **spec})
    with engine.begin() as conn:
        made = [new_job(parsed, tenant="default", actor="t", key=str(uuid4()), inputs={}) for _ in range(number)]
        return [job.id for job in jobs.submit(conn, made)]


def states(engine: Engine) -> list[str]:
    """Of all jobs."""
    with engine.connect() as conn:
        return list(conn.execute(select(t.jobs.c.state).order_by(t.jobs.c.id)).scalars())


async def published(url: str, ids: list[UUID]) -> list[str]:
    """The message ids about these jobs in the stream."""
    client = await nats.connect(url)
    found: list[str] = []
    subscription = await client.jetstream().subscribe("jobs.>", ordered_consumer=True)
    info = await subscription.consumer_info()
    for _ in range((info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)):
        message = await subscription.next_msg(timeout=2)
        found.append((message.headers or {}).get("Nats-Msg-Id", ""))
    await client.close()
    wanted = {str(i) for i in ids}
    return [message for message in found if message.split(":")[0] in wanted]


def test_every_event_is_in_the_stream_once_however_many_relays_there_are(
    database: Engine, settings: SchedulerSettings
) -> None:
    ids = submit(database, 50)
    together(settings, handlers.relay)
    together(settings, handlers.relay)
    assert sorted(asyncio.run(published(settings.nats_url, ids))) == sorted(f"{i}:1" for i in ids)
    with database.connect() as conn:
        assert store.outbox_lag(conn)[0] == 0


def test_what_was_published_and_not_marked_is_published_again_and_kept_once(
    database: Engine, settings: SchedulerSettings
) -> None:
    ids = submit(database, 5)
    together(settings, handlers.relay)
    with database.begin() as conn:
        # As after a stop between the acknowledgement and the commit of the mark.
        conn.execute(text("UPDATE outbox SET published_at = NULL"))
    together(settings, handlers.relay)
    assert len(asyncio.run(published(settings.nats_url, ids))) == 5


def test_only_rows_that_were_published_long_ago_are_trimmed(database: Engine, settings: SchedulerSettings) -> None:
    submit(database, 3)
    together(settings, handlers.relay)
    submit(database, 2)
    with database.begin() as conn:
        assert store.trim_outbox(conn, 60.0, 10) == 0
        conn.execute(text("UPDATE outbox SET published_at = published_at - interval '1 hour'"))
        assert store.trim_outbox(conn, 60.0, 2) == 2
        assert store.trim_outbox(conn, 60.0, 10) == 1
        assert store.outbox_lag(conn)[0] == 2


def test_only_answers_that_were_kept_long_are_forgotten(database: Engine) -> None:
    columns, values = "tenant, key, request_hash, status, body, at", "'t', :key, '', 200, '{}', now() - :age"
    with database.begin() as conn:
        for days in (1, 5, 8, 9):
            row = {"key": str(days), "age": timedelta(days=days)}
            conn.execute(text(f"INSERT INTO replies ({columns}) VALUES ({values})"), row)
        assert store.trim_replies(conn, 7 * 86_400.0, 1) == 1
        assert store.trim_replies(conn, 7 * 86_400.0, 10) == 1
        assert list(conn.execute(text("SELECT key FROM replies ORDER BY key")).scalars()) == ["1", "5"]


def test_a_stream_that_refuses_leaves_the_events_in_the_outbox(database: Engine, settings: SchedulerSettings) -> None:
    submit(database, 3)

    async def refuse_then_take(copy: Control) -> tuple[int, int]:
        client = await nats.connect(settings.nats_url)
        stream = client.jetstream()
        info = await stream.stream_info("EVENTS")
        full: StreamConfig = info.config.evolve(max_msgs=max(1, info.state.messages), discard=DiscardPolicy.NEW)
        await stream.update_stream(full)
        try:
            await handlers.relay(copy)
            waiting = (await copy.transact(store.outbox_lag))[0]
        finally:
            await copy.bus.ensure_streams()
            await client.close()
        await handlers.relay(copy)
        return waiting, (await copy.transact(store.outbox_lag))[0]

    async def run() -> tuple[int, int]:
        async with control(settings) as copy:
            await handlers.relay(copy)
            submit(database, 2)
            return await refuse_then_take(copy)

    assert asyncio.run(run()) == (2, 0)


def test_a_queued_job_is_sent_to_its_queue_and_not_again_before_its_time(
    database: Engine, settings: SchedulerSettings
) -> None:
    Redis.from_url(settings.redis_url.replace("redis+socket", "unix")).flushall()
    (job_id,) = submit(database)

    async def send(copy: Control) -> int:
        sent = await handlers.dispatch(copy)
        await handlers.mark_dispatched(copy, sent)
        return len(sent)

    async def twice() -> tuple[int, int]:
        async with control(settings) as copy:
            return await send(copy), await send(copy)

    assert asyncio.run(twice()) == (1, 0)
    with database.begin() as conn:
        conn.execute(text("UPDATE jobs SET dispatched_at = clock_timestamp() - interval '1 hour'"))
    assert asyncio.run(twice()) == (1, 0)
    queued = Redis.from_url(settings.redis_url.replace("redis+socket", "unix")).lrange("probe", 0, -1)
    assert len(queued) == 2
    assert all(str(job_id).encode() in message for message in queued)


def test_what_a_broker_has_lost_is_sent_again_at_once(
    database: Engine, settings: SchedulerSettings, servers: RunningServers
) -> None:
    redis = Redis.from_url(servers.urls.redis_url.replace("redis+socket", "unix"))

    async def lose() -> tuple[int, int, list[UUID]]:
        async with control(settings) as copy:
            await handlers.recall(copy)
            await handlers.mark_dispatched(copy, await handlers.dispatch(copy))
            kept = await handlers.recall(copy)
            redis.flushdb()
            lost = await handlers.recall(copy)
            return kept, lost, await handlers.dispatch(copy)

    ids = submit(database, 2)
    assert asyncio.run(lose()) == (0, 2, ids)
    redis.close()


def test_a_job_whose_message_was_taken_and_not_answered_is_sent_again_soon(
    database: Engine, settings: SchedulerSettings, servers: RunningServers
) -> None:
    redis = Redis.from_url(servers.urls.redis_url.replace("redis+socket", "unix"))
    redis.flushdb()

    async def rounds() -> list[int]:
        async with control(settings) as copy:
            await handlers.mark_dispatched(copy, await handlers.dispatch(copy))
            with database.begin() as conn:
                conn.execute(text("UPDATE jobs SET dispatched_at = clock_timestamp() - interval '3 s'"))
            waits = await handlers.rouse(copy)
            redis.lpop("probe")
            lost = await handlers.rouse(copy)
            await handlers.mark_dispatched(copy, await handlers.dispatch(copy))
            redis.lpop("probe")
            young = await handlers.rouse(copy)
            return [waits, lost, young]

    submit(database, 1)
    assert asyncio.run(rounds()) == [0, 1, 0]
    redis.close()


def test_a_message_that_nobody_has_taken_is_seen_to_wait(settings: SchedulerSettings, servers: RunningServers) -> None:
    app = build_queue(settings.redis_url)
    redis = Redis.from_url(servers.urls.redis_url.replace("redis+socket", "unix"))
    redis.flushdb()
    assert queue.waiting(app, ["export", "probe"]) == set()
    queue.send(app, "export", str(uuid4()))
    assert queue.waiting(app, ["probe", "export"]) == {"export"}
    assert queue.waiting(app, ["probe", "evaluate"]) == set()
    redis.flushdb()
    redis.close()


def test_a_broker_that_is_away_is_tried_again_in_short_steps() -> None:
    waits: list[float] = []

    def told(error: Exception, wait: float) -> None:
        waits.append(wait)
        if len(waits) == 3:
            raise KeyboardInterrupt

    app = build_queue(f"redis://127.0.0.1:{free_port(0)}/0")
    with app.connection_for_read() as connection, pytest.raises(KeyboardInterrupt):
        connection.ensure_connection(told, 10)
    assert waits == pytest.approx([0.2, 0.4, 0.6])


def test_a_stream_that_was_lost_is_filled_again_from_the_outbox(
    database: Engine, settings: SchedulerSettings, servers: RunningServers
) -> None:
    ids = submit(database, 3)

    async def lose() -> tuple[int, int]:
        async with control(settings) as copy:
            await handlers.relay(copy)
            kept = await handlers.ensure_streams(copy)
            client = await nats.connect(servers.urls.nats_url)
            await client.jetstream().delete_stream("EVENTS")
            await client.close()
            lost = await handlers.ensure_streams(copy)
            await handlers.relay(copy)
            return kept, lost

    kept, lost = asyncio.run(lose())
    assert (kept, lost) == (0, len(ids))
    assert sorted(asyncio.run(published(servers.urls.nats_url, ids))) == sorted(f"{job_id}:1" for job_id in ids)


@pytest.mark.timeout(60)
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_stream_that_answers_nothing_after_a_full_disk_is_made_anew_when_there_is_room(
    database: Engine, settings: SchedulerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = submit(database, 2)
    monkeypatch.setattr(handlers, "STUCK_S", 0.5)

    async def fill(url: str, disk: Path) -> tuple[int, list[str]]:
        async with control(settings.model_copy(update={"nats_url": url})) as copy:
            await handlers.relay(copy)
            subprocess.run(["dd", "if=/dev/zero", f"of={disk}/filler", "bs=64k"], check=False, capture_output=True)
            more = submit(database, 20, returns={f"n{number}": "x" * 200 for number in range(60)})
            for _ in range(3):
                await handlers.relay(copy)
            (disk / "filler").unlink()
            await handlers.relay(copy)
            again = await handlers.ensure_streams(copy)
            await handlers.relay(copy)
            return again, await published(url, [*ids, *more])

    with nats_on_a_small_disk(tmp_path) as (url, disk):
        again, found = asyncio.run(fill(url, disk))
    assert again >= len(ids)
    assert len(found) == len(set(found)) == 22


@contextmanager
def nats_on_a_small_disk(path: Path) -> Iterator[tuple[str, Path]]:
    """A server whose store is a file system of 1 MiB, and that file system."""
    disk, port = path / "disk", free_port(0)
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    (path / "nats.conf").write_text(
        f'listen: 127.0.0.1:{port}\njetstream: {{ store_dir: "{disk}", max_file_store: 8GB, sync_interval: always }}\n'
    )
    server = subprocess.Popen(
        [
            shutil.which("nats-server", path=str(Path(sys.executable).parent)) or "nats-server",
            "-c",
            str(path / "nats.conf"),
        ]
    )
    try:
        yield f"nats://127.0.0.1:{port}", disk
    finally:
        server.kill()
        server.wait()
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_an_expired_lease_is_taken_away_once_and_a_retry_wakes_when_it_is_due(
    database: Engine, settings: SchedulerSettings
) -> None:
    lost, waiting = submit(database, 2)
    with database.begin() as conn:
        for job_id in (lost, waiting):
            jobs.apply(conn, job_id, m.Claim("w", 10.0), actor="t", rng=Random(0))
        jobs.apply(conn, waiting, m.Fail(1, {"message": "x"}, retriable=True), actor="t", rng=Random(0))
        conn.execute(text("UPDATE jobs SET lease_until = lease_until - interval '1 hour', run_after = now()"))
    assert sorted(chain.from_iterable(together(settings, handlers.repair))) == ["retried", "worker-lost"]
    assert states(database) == ["QUEUED", "QUEUED"]


def test_a_worker_that_was_stopped_within_a_transaction_holds_up_its_own_job_alone(
    database: Engine, settings: SchedulerSettings
) -> None:
    stopped, lost, queued = submit(database, 3)
    with database.begin() as conn:
        for job_id in (stopped, lost):
            jobs.apply(conn, job_id, m.Claim("w", 10.0), actor="t", rng=Random(0))
        conn.execute(text("UPDATE jobs SET lease_until = lease_until - interval '1 hour' WHERE state = 'RUNNING'"))

    async def work(copy: Control) -> list[str]:
        await handlers.mark_dispatched(copy, [queued])
        return await handlers.repair(copy)

    with database.connect() as conn:
        jobs.lock(conn, stopped)
        jobs.lock(conn, queued)
        assert list(chain.from_iterable(together(settings, work))) == ["worker-lost"]
    assert list(chain.from_iterable(together(settings, work))) == ["worker-lost"]
    assert states(database) == ["QUEUED"] * 3


def test_slots_are_never_given_twice(database: Engine, settings: SchedulerSettings) -> None:
    spec = {"kind": "train", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}, "resources": {"ranks": 2}}
    submit(database, 5, **spec)
    with database.begin() as conn:
        store.record_node(conn, NodeAlive(name="a", instance="1", slots=4))
        store.record_node(conn, NodeAlive(name="b", instance="1", slots=3))
    assert sum(together(settings, handlers.place_gangs)) == 3
    with database.connect() as conn:
        rows = conn.execute(text("SELECT node, sum(slots) FROM reservations GROUP BY node ORDER BY node")).all()
    assert [tuple(row) for row in rows] == [("a", 4), ("b", 2)]
    assert sorted(states(database)) == ["QUEUED"] * 2 + ["RESERVED"] * 3


def test_a_reservation_that_nobody_took_gives_its_slots_back(database: Engine, settings: SchedulerSettings) -> None:
    submit(database, 1, kind="train", data={"dataset": "d"}, model={"zoo": "mlp"})
    with database.begin() as conn:
        store.record_node(conn, NodeAlive(name="a", instance="1", slots=1))
    together(settings, handlers.place_gangs)
    with database.begin() as conn:
        conn.execute(text("UPDATE jobs SET lease_until = lease_until - interval '1 hour'"))
    together(settings, handlers.repair)
    assert states(database) == ["QUEUED"]
    with database.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM reservations")).scalar_one() == 0
    # The node gets no other gang until it says again that it lives.
    assert sum(together(settings, handlers.place_gangs)) == 0
    with database.begin() as conn:
        store.record_node(conn, NodeAlive(name="a", instance="1", slots=1))
    assert sum(together(settings, handlers.place_gangs)) == 1


def test_several_copies_advance_a_pipeline_as_one(database: Engine, settings: SchedulerSettings) -> None:
    steps = {"a": {"kind": "probe"}, "b": {"kind": "probe"}, "c": {"kind": "probe"}}
    submit(database, 1, kind="pipeline", steps=steps, after={"c": ["a", "b"]})
    together(settings, lambda copy: handlers.advance_pipelines(copy, None))
    with database.connect() as conn:
        rows = conn.execute(select(t.jobs.c.step, t.jobs.c.state).where(t.jobs.c.step.is_not(None))).all()
    assert sorted(map(tuple, rows)) == [("a", "QUEUED"), ("b", "QUEUED"), ("c", "BLOCKED")]


def test_no_client_can_have_taken_the_key_of_a_step(database: Engine, settings: SchedulerSettings) -> None:
    (pipeline,) = submit(database, 1, kind="pipeline", steps={"a": {"kind": "probe"}})
    own = jobs.own_key(pipeline, "a")
    with database.begin() as conn:
        probe = SPEC.validate_python({"kind": "probe"})
        jobs.submit(conn, [new_job(probe, tenant="default", actor="t", key=f"{pipeline}/a", inputs={})])
    together(settings, lambda copy: handlers.advance_pipelines(copy, None))
    with database.connect() as conn:
        found = conn.execute(select(t.jobs.c.step, t.jobs.c.idem_key).where(t.jobs.c.parent_id == pipeline)).all()
    assert list(map(tuple, found)) == [("a", own)]


def test_a_paused_pipeline_that_is_cancelled_takes_its_steps_along(
    database: Engine, settings: SchedulerSettings
) -> None:
    (pipeline,) = submit(database, 1, kind="pipeline", steps={"a": {"kind": "probe"}})

    def advance() -> None:
        together(settings, lambda copy: handlers.advance_pipelines(copy, None))

    def tell(event: m.Event) -> None:
        engine = create_engine(settings.database_url)
        with engine.begin() as conn:
            jobs.apply(conn, pipeline, event, actor="t", rng=Random(0))
        engine.dispose()
        advance()

    advance()
    tell(m.Pause())
    assert states(database) == ["PAUSED", "PAUSED"]
    tell(m.Cancel())
    assert states(database) == ["CANCELLED", "CANCELLED"]


def test_a_node_that_falls_silent_is_shown_so_and_then_forgotten(database: Engine) -> None:
    with database.begin() as conn:
        for name in ("near", "far"):
            store.record_node(conn, NodeAlive(name=name, instance="i", slots=2))
        conn.execute(text("UPDATE nodes SET last_seen = last_seen - interval '1 minute' WHERE name = 'far'"))
        store.mark_silent(conn, 20.0, 3600.0)
        assert {node.name: node.state for node in reads.nodes(conn)} == {"near": "READY", "far": "SILENT"}
        store.record_node(conn, NodeAlive(name="far", instance="i", slots=2))
        assert {node.state for node in reads.nodes(conn)} == {"READY"}
        conn.execute(text("UPDATE nodes SET last_seen = last_seen - interval '2 hours' WHERE name = 'far'"))
        store.mark_silent(conn, 20.0, 3600.0)
        assert [node.name for node in reads.nodes(conn)] == ["near"]


def test_a_job_that_was_announced_is_sent_once_by_its_wake_and_by_the_look_into_the_store(
    database: Engine, settings: SchedulerSettings
) -> None:
    broker = Redis.from_url(settings.redis_url.replace("redis+socket", "unix"))
    broker.flushall()
    announced, found = submit(database, 2)

    async def run() -> list[Any]:
        async with control(settings) as copy:
            return await handlers.dispatch(copy, [(announced, "probe")])

    assert asyncio.run(run()) == [announced, found]
    assert broker.llen("probe") == 2


def test_a_wake_wakes_one_of_several_copies_and_a_damaged_one_does_no_harm(
    database: Engine, settings: SchedulerSettings
) -> None:
    broker = Redis.from_url(settings.redis_url.replace("redis+socket", "unix"))
    broker.flushall()
    job_id = UUID(int=1)  # not in the store: only its announcement can have sent it

    async def run() -> None:
        async with control(settings) as one, control(settings) as other:
            loops = [ControlLoop(copy, ControlMetrics(CollectorRegistry())) for copy in (one, other)]
            running = [asyncio.create_task(loop.run()) for loop in loops]
            while any(loop.unready() for loop in loops):
                await asyncio.sleep(0.02)
            await one.bus.publish(WAKE, b"{damaged")
            await one.bus.wake([(job_id, "probe")])
            for _ in range(250):
                if broker.llen("probe"):
                    break
                await asyncio.sleep(0.02)
            for loop in loops:
                loop.stop()
            await asyncio.gather(*running)

    asyncio.run(run())
    (message,) = broker.lrange("probe", 0, -1)
    assert str(job_id).encode() in message
