"""The lifecycle on a real database: what it keeps, and what it refuses whoever writes."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, select, text
from sqlalchemy.exc import DatabaseError, IntegrityError

from sextant_shared.errors import NotFound, StaleFence
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle import machine as m
from sextant_shared.lifecycle.states import State
from sextant_shared.store import tables as t

RNG = Random(0)


def new_job(key: str | None = None, **changes: Any) -> jobs.NewJob:
    """A probe."""
    job_id = new_id()
    values: dict[str, Any] = {
        "id": job_id,
        "tenant": "default",
        "kind": "probe",
        "name": "p",
        "spec": {"kind": "probe"},
        "body_hash": "ab" * 32,
        "idem_key": key or str(job_id),
        "root_id": job_id,
        "actor": "test",
        "inputs": {},
    }
    return jobs.NewJob(**{**values, **changes})


def submitted(engine: Engine, **changes: Any) -> UUID:
    """A job in the store."""
    with engine.begin() as conn:
        return jobs.submit(conn, [new_job(**changes)])[0].id


def tell(engine: Engine, job_id: UUID, event: m.Event) -> m.Decision:
    """Apply one event in a transaction of its own."""
    with engine.begin() as conn:
        return jobs.apply(conn, job_id, event, actor="test", rng=RNG)[1]


def row(engine: Engine, job_id: UUID) -> Any:
    """The job's row."""
    with engine.connect() as conn:
        return conn.execute(select(t.jobs).where(t.jobs.c.id == job_id)).one()


def test_each_change_writes_its_audit_row_and_its_outbox_row(database: Engine) -> None:
    job_id = submitted(database)
    tell(database, job_id, m.Claim("w", 10.0))
    tell(database, job_id, m.Complete(1))
    with database.connect() as conn:
        audit = conn.execute(select(t.audit).order_by(t.audit.c.seq)).all()
        outbox = conn.execute(select(t.outbox.c.msg_id, t.outbox.c.subject).order_by(t.outbox.c.id)).all()
    assert [(a.seq, a.event, a.from_state, a.to_state) for a in audit] == [
        (1, "submitted", None, "QUEUED"),
        (2, "claimed", "QUEUED", "RUNNING"),
        (3, "succeeded", "RUNNING", "SUCCEEDED"),
    ]
    assert [o.subject for o in outbox] == [f"jobs.probe.{s}.v1" for s in ("queued", "running", "succeeded")]
    assert [o.msg_id for o in outbox] == [f"{job_id}:{seq}" for seq in (1, 2, 3)]


def test_a_change_that_is_rolled_back_leaves_no_trace(database: Engine) -> None:
    job_id = submitted(database)
    with database.connect() as conn:
        jobs.apply(conn, job_id, m.Claim("w", 10.0), actor="test", rng=RNG)
        conn.rollback()
    with database.connect() as conn:
        assert len(conn.execute(select(t.audit)).all()) == 1
        assert len(conn.execute(select(t.outbox)).all()) == 1
    assert row(database, job_id).state == "QUEUED"


def test_twenty_submissions_with_one_key_make_one_job(database_url: str, database: Engine) -> None:
    engine = create_engine(database_url, pool_size=10)
    gate = threading.Barrier(10)

    def submit(_: int) -> list[jobs.Submitted]:
        gate.wait()
        with engine.begin() as conn:
            return jobs.submit(conn, [new_job("same"), new_job("same")])

    with ThreadPoolExecutor(10) as pool:
        answers = [answer for pair in pool.map(submit, range(10)) for answer in pair]
    engine.dispose()
    assert len({answer.id for answer in answers}) == 1
    assert sum(answer.created for answer in answers) == 1


def test_the_same_key_with_another_body_is_told_apart(database: Engine) -> None:
    submitted(database, key="k")
    with database.begin() as conn:
        (again,) = jobs.submit(conn, [new_job("k", body_hash="cd" * 32)])
    assert not again.created
    assert not again.same_body


def test_of_ten_workers_that_claim_at_once_one_gets_the_job(database_url: str, database: Engine) -> None:
    job_id = submitted(database)
    engine = create_engine(database_url, pool_size=10)
    gate = threading.Barrier(10)

    def claim(number: int) -> m.Decision:
        gate.wait()
        return tell(engine, job_id, m.Claim(f"w{number}", 10.0))

    with ThreadPoolExecutor(10) as pool:
        decisions = list(pool.map(claim, range(10)))
    engine.dispose()
    assert sum(isinstance(decision, m.Transition) for decision in decisions) == 1
    assert row(database, job_id).fence == 1


def test_a_zombie_can_neither_beat_nor_complete_nor_commit_a_checkpoint(database: Engine) -> None:
    job_id = submitted(database)
    tell(database, job_id, m.Claim("zombie", 10.0))
    with database.begin() as conn:
        conn.execute(text("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'"))
    tell(database, job_id, m.Expire())
    tell(database, job_id, m.Claim("heir", 10.0))

    def refused(work: Any) -> None:
        with pytest.raises(StaleFence), database.begin() as conn:
            work(conn)

    refused(lambda c: jobs.heartbeat(c, job_id, 1, 10.0))
    refused(lambda c: jobs.complete(c, job_id, 1, files=[], outputs={}, actor="zombie", rng=RNG))
    refused(lambda c: jobs.commit_checkpoint(c, job_id, 1, step=1, samples=1, path="p", files=[]))
    with database.begin() as conn:
        jobs.complete(conn, job_id, 2, files=[], outputs={"x": 1}, actor="heir", rng=RNG)
        assert conn.execute(select(t.manifests.c.fence)).scalar_one() == 2


def test_a_lease_that_has_run_out_cannot_be_extended_even_before_the_reaper_came(database: Engine) -> None:
    job_id = submitted(database)
    tell(database, job_id, m.Claim("w", 10.0))
    with database.begin() as conn:
        assert jobs.heartbeat(conn, job_id, 1, 10.0) == jobs.Beat(cancel=False, pause=False)
        conn.execute(text("UPDATE jobs SET lease_until = clock_timestamp() - interval '1 second'"))
    with pytest.raises(StaleFence), database.begin() as conn:
        jobs.heartbeat(conn, job_id, 1, 10.0)


def test_a_heartbeat_brings_back_the_wish_to_stop(database: Engine) -> None:
    job_id = submitted(database)
    tell(database, job_id, m.Claim("w", 10.0))
    tell(database, job_id, m.Pause())
    with database.begin() as conn:
        assert jobs.heartbeat(conn, job_id, 1, 10.0) == jobs.Beat(cancel=False, pause=True)
    tell(database, job_id, m.Cancel())
    with database.begin() as conn:
        assert jobs.heartbeat(conn, job_id, 1, 10.0) == jobs.Beat(cancel=True, pause=False)


def test_attempts_are_kept_with_their_worker_and_their_end(database: Engine) -> None:
    job_id = submitted(database)
    tell(database, job_id, m.Claim("a", 10.0))
    tell(database, job_id, m.Died(1, "killed"))
    tell(database, job_id, m.Claim("b", 10.0))
    tell(database, job_id, m.Cancel())
    with database.connect() as conn:
        rows = conn.execute(select(t.attempts).order_by(t.attempts.c.fence)).all()
    assert [(r.fence, r.worker, r.outcome, r.ended_at is None) for r in rows] == [
        (1, "a", "worker-lost", False),
        (2, "b", None, True),
    ]


def test_the_newest_checkpoint_is_the_one_to_resume_from(database: Engine) -> None:
    job_id = submitted(database, kind="train")
    tell(database, job_id, m.Reserve({"n": 1}, 10.0))
    tell(database, job_id, m.Claim("n", 10.0, epoch=1))
    with database.begin() as conn:
        for step in (10, 20):
            jobs.commit_checkpoint(conn, job_id, 1, step=step, samples=step * 8, path=f"p{step}", files=[])
        last = jobs.last_checkpoint(conn, job_id)
    assert last is not None
    assert (last.step, last.samples) == (20, 160)


def test_another_tenant_does_not_see_the_job(database: Engine) -> None:
    job_id = submitted(database)
    with pytest.raises(NotFound), database.begin() as conn:
        jobs.apply(conn, job_id, m.Cancel(), actor="x", rng=RNG, tenant="other")


def _raw(conn: Connection, changes: str, job_id: UUID) -> None:
    conn.execute(text(f"UPDATE jobs SET {changes} WHERE id = :id"), {"id": job_id})


@pytest.mark.parametrize(
    "changes",
    [
        "state = 'SUCCEEDED'",
        "state = 'SUCCEEDED', seq = seq + 1",
        "state = 'RUNNING', seq = seq + 2",
        "fence = fence + 1",
        "state = 'RUNNING', fence = fence + 2, seq = seq + 1",
        "audit_hash = 'x'",
        "seq = seq + 1",
    ],
)
def test_the_database_itself_refuses_an_illegal_change(database: Engine, changes: str) -> None:
    job_id = submitted(database)
    with pytest.raises(IntegrityError), database.begin() as conn:
        _raw(conn, changes, job_id)


def test_the_database_itself_refuses_a_second_claim(database: Engine) -> None:
    job_id = submitted(database)
    tell(database, job_id, m.Claim("w", 10.0))
    with pytest.raises(IntegrityError, match="no legal transition"), database.begin() as conn:
        _raw(conn, "state = 'RUNNING', fence = fence + 1, seq = seq + 1", job_id)


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'x'", "DELETE FROM audit", "TRUNCATE audit CASCADE"])
def test_the_audit_log_only_grows(database: Engine, statement: str) -> None:
    submitted(database)
    with pytest.raises(DatabaseError, match="append-only"), database.begin() as conn:
        conn.execute(text(statement))


def test_every_transition_that_the_rules_make_is_one_that_the_database_takes(database: Engine) -> None:
    rng = Random(7)
    kinds = ("probe", "train", "pipeline")
    made = {submitted(database, kind=kind): kind for kind in kinds for _ in range(4)}
    for _ in range(600):
        job_id = rng.choice(list(made))
        now = row(database, job_id)
        choices: list[m.Event] = [
            m.Claim("w", 30.0, now.epoch),
            m.Claim("w", 30.0, now.epoch),
            m.Reserve({"n": 1}, 30.0),
            m.Start(),
            m.Fail(now.fence, {"message": "x"}, retriable=True),
            m.Died(now.fence, "x"),
            m.Stopped(now.fence),
            m.Cancel() if rng.random() < 0.1 else m.Pause(),
            m.Resume(),
            m.Requeue(),
            m.Settle(State.FAILED) if rng.random() < 0.3 else m.Resume(),
            m.Complete(now.fence) if rng.random() < 0.2 else m.Resume(),
        ]
        with database.begin() as conn:
            # Retries are due at once here: the wait is not what is tried.
            conn.execute(text("UPDATE jobs SET run_after = clock_timestamp() - interval '1 second'"))
            jobs.apply(conn, job_id, rng.choice([*choices, m.Wake()]), actor="test", rng=rng)
    with database.connect() as conn:
        seen = conn.execute(text("SELECT count(DISTINCT (from_state, to_state)) FROM audit")).scalar_one()
    assert seen > 15, "the walk was too short to mean anything"
