"""An attempt from its claim to its end, on the real store and bus: whatever the work does, the job's state is true."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from prometheus_client import CollectorRegistry
from pydantic import BaseModel
from sqlalchemy import Engine, create_engine, select, text, update

from sextant.stack.running import RunningServers
from sextant_scheduler.handlers.submission import new_job
from sextant_shared.artefacts import Artefacts, File
from sextant_shared.bus import ThreadedBus
from sextant_shared.contracts.specs import SPEC
from sextant_shared.execution.launching import Ending, ProcessLauncher, Running
from sextant_shared.execution.measures import Measures
from sextant_shared.execution.supervisor import Supervisor
from sextant_shared.execution.workbench import Failed, Paused, Progress, Registration, Result
from sextant_shared.execution.workshop import Workshop
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle import machine as m
from sextant_shared.lifecycle.place import Place
from sextant_shared.store import tables as t

LEASE_S = 1.5
MODEL = Result(outputs={"rows": 3}, registers=[Registration(type="model", name="net", output="model", files=["a.bin"])])


@dataclass
class Work:
    """Stands in for the processes of an attempt: does as it is told, and remembers what it was sent."""

    tells: list[BaseModel] = field(default_factory=list)
    exit_code: int = 0
    hangs: bool = False
    """Runs until a signal."""
    begun: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    signals: list[signal.Signals] = field(default_factory=list)
    meeting: str | None = None

    def start(self, directory: Path, place: Place) -> Running:
        """Write an artefact."""
        (directory / "out" / "a.bin").write_bytes(b"artefact")
        return self

    def events(self) -> Iterator[bytes]:
        """What it tells."""
        self.begun.set()
        if self.hangs:
            assert self.stop.wait(20)
        yield from (event.model_dump_json().encode() for event in self.tells)

    def processes(self) -> tuple[()]:
        """None, so that no limit is exceeded."""
        return ()

    def wait(self) -> Ending:
        """How it ended."""
        return Ending((self.exit_code,), 0 if self.exit_code else None)

    def signal(self, number: signal.Signals) -> None:
        """Remember it, and stop."""
        self.signals.append(number)
        self.stop.set()

    def kill(self) -> None:
        """Stop."""
        self.stop.set()


@dataclass(frozen=True)
class Shop:
    """A worker of one kind of work, and the store."""

    engine: Engine
    supervisor: Supervisor
    work: Work
    artefacts: Path
    made: Workshop

    def submit(self, kind: str = "export", priority: int = 0) -> UUID:
        """A job that waits for the worker."""
        more = {"model": {"model": "m"}} if kind == "export" else {}
        spec = SPEC.validate_python({"kind": kind, "priority": priority, **more})
        with self.engine.begin() as conn:
            return jobs.submit(conn, [new_job(spec, tenant="default", actor="t", key=str(new_id()), inputs={})])[0].id

    def tell(self, job_id: UUID, event: m.Event) -> None:
        """Apply an event that somebody else causes."""
        with self.engine.begin() as conn:
            jobs.insist(jobs.apply(conn, job_id, event, actor="t", rng=Random(0))[1])

    def announce(self, job_id: UUID, event: m.Event) -> None:
        """Apply an event, and publish what the outbox holds of it until it is heard, as the relay does."""
        self.tell(job_id, event)
        query = select(t.outbox).where(t.outbox.c.msg_id.startswith(str(job_id))).order_by(t.outbox.c.id.desc())
        with self.engine.connect() as conn:
            row = conn.execute(query.limit(1)).one()
        for _ in range(50):
            self.made.bus.publish(row.subject, json.dumps(row.payload).encode())
            if self.work.stop.wait(0.1):
                return

    def run(self, meanwhile: Callable[[UUID], None] = lambda job_id: None) -> Any:
        """Run a job, do something while its work runs, and give its row as it is then."""
        job_id = self.submit()
        thread = threading.Thread(target=self.supervisor.run, args=(job_id,))
        thread.start()
        assert self.work.begun.wait(10)
        meanwhile(job_id)
        thread.join(20)
        assert not thread.is_alive()
        return self.row(job_id)

    def row(self, job_id: UUID) -> Any:
        """The job, with its outputs."""
        query = select(t.jobs, t.manifests.c.outputs, t.manifests.c.files).outerjoin(t.manifests)
        with self.engine.connect() as conn:
            return conn.execute(query.where(t.jobs.c.id == job_id)).one()


@pytest.fixture
def shop(database: Engine, servers: RunningServers, tmp_path: Path) -> Iterator[Shop]:
    """A worker that runs `Work`."""
    work, artefacts = Work(), tmp_path / "artefacts"
    bus = ThreadedBus(servers.urls.nats_url, "test")
    made = Workshop(
        engine=database,
        artefacts=Artefacts(f"file://{artefacts}", tmp_path / "cache"),
        bus=bus,
        directory=tmp_path / "jobs",
        worker="w",
        lease_s=LEASE_S,
        launchers={"export": work},
        measures=Measures(CollectorRegistry()),
    )
    yield Shop(database, Supervisor(made), work, artefacts, made)
    bus.close()


def test_a_result_is_committed_with_its_artefacts_and_versions(shop: Shop) -> None:
    shop.work.tells = [Progress(at=0.0, fraction=0.5), MODEL]
    row = shop.run()
    assert row.state == "SUCCEEDED"
    assert (row.outputs["rows"], row.outputs["model"]["name"], row.outputs["model"]["version"]) == (3, "net", 1)
    assert (shop.artefacts / str(row.id) / "1" / row.files[0]["path"]).read_bytes() == b"artefact"


@pytest.mark.parametrize(
    ("tells", "exit_code", "state", "errors", "deaths", "message"),
    [
        ([Failed(message="bad data")], 1, "FAILED", 1, 0, "bad data"),
        ([Failed(message="no answer", retriable=True)], 1, "RETRY_WAIT", 1, 0, "no answer"),
        ([], -9, "QUEUED", 0, 1, "the work's process ended with SIGKILL (rank 0 first)"),
        ([], 0, "QUEUED", 0, 1, "the work's process ended with status 0 and no result"),
        ([MODEL], -11, "QUEUED", 0, 1, "the work's process ended with SIGSEGV (rank 0 first)"),
    ],
)
def test_work_that_does_not_end_well_is_told_apart(
    shop: Shop, tells: list[BaseModel], exit_code: int, state: str, errors: int, deaths: int, message: str
) -> None:
    shop.work.tells, shop.work.exit_code = tells, exit_code
    row = shop.run()
    assert (row.state, row.errors, row.worker_deaths) == (state, errors, deaths)
    assert row.error["message"] == message
    assert row.outputs is None


def test_results_that_do_not_fit_on_the_disk_are_an_error_that_may_pass(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> list[File]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Artefacts, "publish", full)
    shop.work.tells = [MODEL]
    row = shop.run()
    assert (row.state, row.errors, row.worker_deaths) == ("RETRY_WAIT", 1, 0)
    assert "No space left on device" in row.error["message"]


@pytest.mark.parametrize(("event", "state"), [(m.Cancel(), "CANCELLED"), (m.Pause(), "PAUSED")])
def test_a_wish_of_the_owner_reaches_the_work(shop: Shop, event: m.Event, state: str) -> None:
    shop.work.hangs = True
    row = shop.run(lambda job_id: shop.tell(job_id, event))
    assert (row.state, shop.work.signals) == (state, [signal.SIGTERM])


@pytest.mark.parametrize(("event", "state"), [(m.Cancel(), "CANCELLED"), (m.Pause(), "PAUSED")])
def test_a_wish_that_is_heard_does_not_wait_for_the_heartbeat(shop: Shop, event: m.Event, state: str) -> None:
    """A lease of an hour has its first heartbeat after 20 minutes; the work waits for 20 seconds."""
    patient = Shop(shop.engine, Supervisor(replace(shop.made, lease_s=3600.0)), shop.work, shop.artefacts, shop.made)
    patient.supervisor.listen()
    shop.work.hangs = True
    row = patient.run(lambda job_id: shop.announce(job_id, event))
    assert (row.state, shop.work.signals) == (state, [signal.SIGTERM])


def test_a_message_that_is_none_disturbs_nothing(shop: Shop) -> None:
    shop.supervisor.listen()
    shop.work.tells = [MODEL]
    row = shop.run(lambda _: shop.made.bus.publish("jobs.export.cancelling.v1", b"no event"))
    assert row.state == "SUCCEEDED"


def test_a_worker_that_drains_hands_its_job_back(shop: Shop) -> None:
    shop.work.hangs = True
    row = shop.run(lambda _: shop.supervisor.drain())
    assert (row.state, row.errors, row.worker_deaths, row.lease_owner) == ("QUEUED", 0, 0, None)


def test_an_attempt_that_lost_its_lease_stops_its_work_and_commits_nothing(shop: Shop) -> None:
    shop.work.hangs, shop.work.tells = True, [MODEL, Paused()]

    def lose(job_id: UUID) -> None:
        with shop.engine.begin() as conn:
            conn.execute(text("UPDATE jobs SET lease_until = now() - interval '1 second'"))
        shop.tell(job_id, m.Expire())
        shop.tell(job_id, m.Claim("another", 60.0))

    row = shop.run(lose)
    assert (row.state, row.fence, row.lease_owner, row.outputs) == ("RUNNING", 2, "another", None)
    assert shop.work.stop.is_set()


def test_a_doubled_message_finds_nothing_to_claim(shop: Shop) -> None:
    job_id = shop.submit()
    shop.tell(job_id, m.Claim("another", 60.0))
    assert not shop.supervisor.run(job_id)
    assert shop.row(job_id).fence == 1


def test_a_message_wakes_for_the_first_job_of_its_queue(shop: Shop) -> None:
    with shop.engine.begin() as conn:
        assert jobs.next_queued(conn, new_id()) is None
    urgent_elsewhere = shop.submit("probe", priority=100)
    old, young, urgent = shop.submit(), shop.submit(), shop.submit(priority=5)
    hit, waits = shop.submit(), shop.submit(priority=-5)
    for job_id, fence in ((hit, 1), (waits, 1)):
        shop.tell(job_id, m.Claim("w", 60.0))
        shop.tell(job_id, m.Died(fence, "was killed"))
    with shop.engine.begin() as conn:
        conn.execute(update(t.jobs).where(t.jobs.c.id == waits).values(run_after=text("now() + interval '1 hour'")))
        shop_order = []
        while first := jobs.next_queued(conn, young):
            shop_order.append(first)
            conn.execute(update(t.jobs).where(t.jobs.c.id == first).values(run_after=text("now() + interval '1 h'")))
        assert jobs.next_queued(conn, urgent_elsewhere) == urgent_elsewhere
    assert shop_order == [hit, urgent, old, young]


def test_a_job_that_is_held_is_passed_over_and_waited_for_only_where_there_is_no_other(shop: Shop) -> None:
    first, second = shop.submit(), shop.submit()
    with shop.engine.begin() as holds:
        assert jobs.next_queued(holds, second) == first
        with shop.engine.begin() as conn:
            assert jobs.next_queued(conn, first) == second
            found: list[UUID | None] = []

            def wait() -> None:
                with shop.engine.begin() as waiting:
                    found.append(jobs.next_queued(waiting, first))

            thread = threading.Thread(target=wait)
            thread.start()
            thread.join(0.5)
            assert thread.is_alive(), "both are held"
    thread.join(10)
    assert found == [first]


def test_a_message_is_not_given_up_while_the_store_is_away(shop: Shop, servers: RunningServers) -> None:
    job_id = shop.submit()
    name = shop.engine.url.database
    admin = create_engine(servers.urls.database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        conn.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :n"), {"n": name})
        thread = threading.Thread(target=shop.supervisor.run_next, args=(job_id,))
        thread.start()
        thread.join(1.5)
        assert thread.is_alive()
        conn.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    thread.join(20)
    admin.dispose()
    assert shop.row(job_id).attempt == 1


def test_a_worker_that_drains_waits_for_no_store(shop: Shop) -> None:
    shop.supervisor.drain()
    assert not shop.supervisor.run_next(shop.submit())


def test_what_a_dead_predecessor_held_is_handed_back_at_once(shop: Shop) -> None:
    held, others = shop.submit(), shop.submit()
    shop.tell(held, m.Claim("w", 3600.0))
    shop.tell(others, m.Claim("another", 3600.0))
    assert shop.supervisor.recover() == 1
    assert [shop.row(job_id).state for job_id in (held, others)] == ["QUEUED", "RUNNING"]


def test_work_does_not_begin_where_its_worker_was_stopped_after_the_claim_for_most_of_the_lease(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Measures, "claimed", lambda *_: time.sleep(LEASE_S * 0.9))
    job_id = shop.submit()
    assert shop.supervisor.run(job_id)
    assert not shop.work.begun.is_set()
    assert shop.row(job_id).state == "RUNNING"  # for the reaper


def test_a_child_gets_neither_an_address_nor_a_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nenv\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    for name in ("SEXTANT_DATABASE_URL", "SEXTANT_SERVICE_KEY", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, "secret")
    work = ProcessLauncher("some_module").start(tmp_path, Place())
    assert list(work.events()) == []
    assert work.wait().clean
    seen = (tmp_path / "log.txt").read_text()
    assert "PATH=" in seen
    assert "secret" not in seen
