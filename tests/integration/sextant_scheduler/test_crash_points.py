"""At every point where a process may die between two effects, it does: each job ends once, nothing is lost."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis
from sqlalchemy import Engine, text
from tests.chaos import invariants
from tests.chaos.evidence import Files, read_store, read_stream
from tests.chaos.workload import Answer

from sextant.stack.running import RunningServers
from sextant_scheduler.handlers.notary import Notary, Seals
from sextant_scheduler.store import sealing
from sextant_shared.faults import Point
from sextant_shared.queue import MARK

CRASHING = Path(__file__).with_name("crashing.py")
STATUS = 9
DIES_WITHIN_S = 60.0
ENDS_WITHIN_S = 60.0
TRAIN = {"kind": "train", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}, "retry": {"backoff_s": 0.2}}
JOBS: list[dict[str, Any]] = [
    {"kind": "probe", "retry": {"backoff_s": 0.2}},
    {"kind": "probe", "outcome": "fail-once", "retry": {"backoff_s": 0.2}},
    {"kind": "pipeline", "steps": {"a": {"kind": "probe"}, "b": {"kind": "probe"}}, "after": {"b": ["a"]}},
    TRAIN,
    {"kind": "probe"},
]
TRIALS = 2
LONG = {"kind": "probe", "sleep_s": 3.8}
"""Long enough for a heartbeat."""
GANG = {**TRAIN, "resources": {"ranks": 3}}
PREPARE = {"kind": "prepare", "source": "package://sklearn/wine", "task": "tabular", "retry": {"backoff_s": 0.2}}
SEARCH = {**TRAIN, "kind": "tune", "trials": TRIALS, "maximize": "accuracy"}
FOR = {"beat": LONG, "divider": PREPARE, "second": GANG, "agent": GANG, "tuner": SEARCH}
"""A job that leads to points of this group or this role, where those that are always there do not."""
PARTS = {"pipeline": 2, "prepare": 2, "tune": TRIALS}
"""Jobs that a job of this kind is made of."""


def group(point: str) -> str:
    """What it is about."""
    return point.partition(".")[0]


OF_ROLE = {
    "submitter": [p for p in Point if group(p) == "submit"],
    "control": [p for p in Point if group(p) in ("relay", "dispatch", "place", "repair", "advance", "recall")],
    "agent": [p for p in Point if group(p) in ("checkpoint", "summon")],
    "second": [p for p in Point if group(p) in ("join", "leave")],
    "worker": [p for p in Point if group(p) in ("claim", "attempt", "beat", "result", "ending", "recover")],
    "divider": [p for p in Point if group(p) in ("enlist", "pieces")],
    "tuner": [p for p in Point if group(p) == "search"],
    "notary": [p for p in Point if group(p) == "seal"],
}
ROUNDS = [
    {role: point for role, point in zip(OF_ROLE, points, strict=True) if point}
    for points in zip_longest(*OF_ROLE.values())
]


def test_every_point_belongs_to_one_role() -> None:
    assert sorted(point for points in OF_ROLE.values() for point in points) == sorted(Point)


@dataclass
class Installation:
    """The processes, each started again when it died."""

    config: dict[str, str]
    engine: Engine
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    wanted: dict[str, Any] = field(default_factory=dict)
    died: set[str] = field(default_factory=set)

    @property
    def directory(self) -> Path:
        return Path(self.config["directory"])

    def start(self, role: str, point: str | None = None) -> subprocess.Popen[bytes]:
        """A process of this role, in place of the one that runs."""
        if old := self.running.pop(role, None):
            old.kill()
            old.wait()
        command = [sys.executable, str(CRASHING), role, json.dumps(self.config), *([point] if point else [])]
        with (self.directory / f"{role}.log").open("ab") as log:
            self.running[role] = subprocess.Popen(command, stdout=log, stderr=log)
        return self.running[role]

    def let_die(self, points: dict[str, list[str]]) -> None:
        """Wait until each process has died at its points, one after the other; start it anew each time."""
        until = time.monotonic() + DIES_WITHIN_S
        while points:
            for role, left in list(points.items()):
                status = self.running[role].poll()
                if status is None:
                    assert time.monotonic() < until, f"{role} never came to {left[0]}:\n{self.tail(role)}"
                    continue
                assert status == STATUS, f"{role} ended with {status} instead of at {left[0]}:\n{self.tail(role)}"
                self.died.add(left.pop(0))
                self.start(role, left[0] if left else None)
                if not left:
                    del points[role]
            time.sleep(0.05)

    def tail(self, role: str) -> str:
        """The end of its log."""
        return (self.directory / f"{role}.log").read_text()[-2000:]

    def want(self, number: int, points: dict[str, str]) -> list[str]:
        """More jobs for the submitter to submit, that lead to the points; their keys."""
        wanting = {*points, *map(group, points.values())}
        specs = {json.dumps(spec): spec for name, spec in FOR.items() if name in wanting}
        more = {f"{number}/{index}": spec for index, spec in enumerate([*specs.values(), *JOBS])}
        self.wanted |= more
        (self.directory / "wanted.json").write_text(json.dumps(self.wanted))
        return list(more)

    def round(self, number: int, points: dict[str, str]) -> None:
        """Arm the processes, let them work, restart those that died, and wait for the end."""
        keys = self.want(number, points)
        # There is something to recover only for the successor of one that died.
        armed = {
            role: [*([Point.CLAIM_COMMITTED] if point.startswith("recover.") else []), point]
            for role, point in points.items()
        }
        for role, (first, *_) in armed.items():
            self.start(role, first)
        if Point.RECALL_FORGOTTEN in points.values():
            # Before the process that is to die has started, there is nobody who would mark it anew.
            redis = Redis.from_url(self.config["redis_url"].replace("redis+socket", "unix"))
            redis.delete(MARK)
            redis.close()
        if "submitter" not in points:
            self.start("submitter")
        self.let_die(armed)
        assert self.running["submitter"].wait(ENDS_WITHIN_S) == 0, self.tail("submitter")
        self.wait_for(keys)

    def wait_for(self, keys: list[str]) -> None:
        """Until these jobs have ended and every event is published."""
        open_jobs = text("SELECT idem_key, state FROM jobs WHERE finished_at IS NULL")
        waiting = text("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        until = time.monotonic() + ENDS_WITHIN_S
        while time.monotonic() < until:
            with self.engine.connect() as conn:
                left = conn.execute(open_jobs).all()
                if not left and not conn.execute(waiting).scalar_one():
                    return
            time.sleep(0.1)
        logs = "\n".join(self.tail(role) for role in self.running)
        raise AssertionError(f"{keys}: still open: {left}\n{logs}")

    def end_the_notary(self) -> None:
        """When every row of the audit log is sealed, and its process has had the time to write that down."""
        until = time.monotonic() + ENDS_WITHIN_S
        while time.monotonic() < until:
            with self.engine.connect() as conn:
                done = not conn.execute(text("SELECT count(*) FROM audit_unsealed")).scalar_one()
            time.sleep(0.5)
            if done:
                self.running.pop("notary").kill()
                return
        raise AssertionError(f"rows wait for their seal\n{self.tail('notary')}")

    def stop(self) -> None:
        """End all."""
        for process in self.running.values():
            process.kill()
            process.wait()


@pytest.fixture
def installation(
    database: Engine, database_url: str, servers: RunningServers, tmp_path: Path
) -> Iterator[Installation]:
    """Nothing armed."""
    urls = {"database_url": database_url, "redis_url": servers.urls.redis_url, "nats_url": servers.urls.nats_url}
    made = Installation({**urls, "directory": str(tmp_path)}, database)
    for role in OF_ROLE.keys() - {"submitter"}:
        made.start(role)
    yield made
    made.stop()


# Each query gives rows where something is wrong that is right elsewhere.
WRONG = {
    "completed other than once": "SELECT j.id FROM jobs j LEFT JOIN audit a ON a.subject_id = j.id AND"
    " a.to_state = 'SUCCEEDED' GROUP BY j.id HAVING count(a.seq) <> 1",
    "slots are left": "SELECT job_id FROM reservations",
    "an attempt never ended": "SELECT job_id FROM attempts WHERE ended_at IS NULL",
}


def verify(installation: Installation, nats_url: str) -> None:
    """What must hold at the end: the invariants of docs/reliability.md, and that every job succeeded."""
    lines = (installation.directory / "ledger.txt").read_text().splitlines()
    answers = [Answer(key, UUID(job_id), 0.0, None) for key, job_id in (line.split("\t") for line in lines)]
    assert {answer.key for answer in answers} == installation.wanted.keys()
    store = read_store(installation.engine)
    files = Files.read(installation.engine, installation.directory / "artefacts")
    stream = asyncio.run(read_stream(nats_url))
    own = [message for message in stream if UUID(message.partition(":")[0]) in store.jobs]
    found = [
        *invariants.of_rows(store, answers),
        *invariants.of_stream(store, own),
        *invariants.of_files(files),
        *invariants.unfinished(store),
    ]
    assert found == []
    parts = len(store.jobs) - len(answers)
    assert parts == sum(PARTS.get(spec["kind"], 0) for spec in installation.wanted.values()), "I2"
    seals = Seals(installation.directory / "notary")
    with installation.engine.begin() as conn:
        # In this order: a notary that is made puts right what it can.
        assert set(seals.notes()) == set(sealing.notes(conn, -1)), "I9"
        assert Notary(conn, seals).size == conn.execute(text("SELECT count(*) FROM audit")).scalar_one(), "I9"
    with installation.engine.connect() as conn:
        for what, query in WRONG.items():
            assert conn.execute(text(query)).all() == [], what


def crash(installation: Installation, nats_url: str, repetitions: int) -> None:
    """Every point as often."""
    number = 0
    for _ in range(repetitions):
        for points in ROUNDS:
            installation.round(number, dict(points))
            number += 1
    installation.end_the_notary()
    verify(installation, nats_url)
    hit = set((installation.directory / "hits.txt").read_text().split())
    assert hit == set(Point), f"never reached: {sorted(set(Point) - hit)}"
    assert installation.died == set(Point), f"died nowhere near {sorted(set(Point) - installation.died)}"


@pytest.mark.timeout(900)
def test_a_crash_at_any_point_loses_nothing_and_does_nothing_twice(
    installation: Installation, servers: RunningServers
) -> None:
    crash(installation, servers.urls.nats_url, 1)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_crashes_lose_nothing_and_do_nothing_twice(installation: Installation, servers: RunningServers) -> None:
    crash(installation, servers.urls.nats_url, 5)
