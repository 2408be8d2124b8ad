"""The nodes of a gang on a real database: who may join, who is missed, and when slots are free again."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, select, text

from sextant_scheduler.handlers.submission import new_job
from sextant_shared.contracts.specs import SPEC
from sextant_shared.errors import StaleFence
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import gangs, jobs
from sextant_shared.lifecycle import machine as m
from sextant_shared.lifecycle.place import Place
from sextant_shared.store import tables as t

SHARES = {"a": 2, "b": 1}
CLEAN = {"clean": True, "reason": "", "failed": None}
KILLED = {"clean": False, "reason": "killed", "failed": None}


def tell(engine: Engine, job_id: UUID, event: m.Event) -> None:
    with engine.begin() as conn:
        jobs.insist(jobs.apply(conn, job_id, event, actor="t", rng=Random(0))[1])


def summoned(engine: Engine) -> UUID:
    """A job that node a leads, and to which node b is called."""
    spec = SPEC.validate_python(
        {"kind": "train", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}, "resources": {"ranks": 3}}
    )
    with engine.begin() as conn:
        for name in SHARES:
            conn.execute(
                text("INSERT INTO nodes (name, slots, instance, state) VALUES (:n, 2, 'i', 'READY')"), {"n": name}
            )
        job_id = jobs.submit(conn, [new_job(spec, tenant="default", actor="t", key=str(new_id()), inputs={})])[0].id
    reserve(engine, job_id, epoch=1, fence=1)
    return job_id


def reserve(engine: Engine, job_id: UUID, epoch: int, fence: int) -> None:
    """The job's next epoch, claimed by node a."""
    tell(engine, job_id, m.Reserve(SHARES, 30.0))
    with engine.begin() as conn:
        gangs.reserve(conn, job_id, epoch, SHARES)
    tell(engine, job_id, m.Claim("a/trainer", 30.0, epoch))
    with engine.begin() as conn:
        gangs.summon(conn, job_id, fence, "a", "10.0.0.1:1234", 30.0)


def joined(engine: Engine, job_id: UUID) -> tuple[m.Job, Place] | None:
    with engine.begin() as conn:
        return gangs.join(conn, job_id, "b", 30.0)


def reserved(engine: Engine) -> list[str]:
    """The nodes whose slots are taken."""
    with engine.connect() as conn:
        return list(conn.execute(select(t.reservations.c.node).order_by(t.reservations.c.node)).scalars())


def late(engine: Engine) -> None:
    """Let every member's lease run out."""
    with engine.begin() as conn:
        conn.execute(text("UPDATE reservations SET lease_until = lease_until - interval '1 hour'"))


def test_a_member_joins_once_and_learns_its_place(database: Engine) -> None:
    job_id = summoned(database)
    with database.connect() as conn:
        assert gangs.summoned(conn, "b") == [job_id]
        assert gangs.summoned(conn, "a") == []
        assert gangs.place_of(conn, job_id, "a") == Place(2, 0, 3, 2, None)
    entry = joined(database, job_id)
    assert entry is not None
    assert entry[0].fence == 1
    assert entry[1] == Place(1, 2, 3, 2, "10.0.0.1:1234")
    assert joined(database, job_id) is None
    with database.connect() as conn:
        assert gangs.summoned(conn, "b") == []


def test_who_comes_too_late_does_not_join_and_is_missed(database: Engine) -> None:
    job_id = summoned(database)
    late(database)
    assert joined(database, job_id) is None
    with database.connect() as conn:
        assert gangs.members(conn, job_id, 1) == [gangs.Member("b", True, None)]


def test_a_member_of_an_old_fence_is_refused_everywhere(database: Engine) -> None:
    job_id = summoned(database)
    joined(database, job_id)
    tell(database, job_id, m.Died(1, "x"))
    with database.begin() as conn, pytest.raises(StaleFence):
        gangs.heartbeat(conn, job_id, "b", 1, 30.0)
    part = {"step": 10, "samples": 80, "path": "1/c", "files": []}
    with database.begin() as conn, pytest.raises(StaleFence):
        gangs.commit_part(conn, job_id, 1, Place(1, 2, 3, 2), "b", **part)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["leaves", "lapses"])
def test_the_slots_of_a_member_are_taken_until_its_ranks_are_gone(database: Engine, how: str) -> None:
    job_id = summoned(database)
    joined(database, job_id)
    tell(database, job_id, m.Died(1, "x"))
    assert reserved(database) == ["b"]
    with database.begin() as conn:
        assert gangs.release_lapsed(conn) == 0
    if how == "lapses":
        late(database)
    with database.begin() as conn:
        if how == "leaves":
            gangs.leave(conn, job_id, "b", 1, KILLED)
        else:
            assert gangs.release_lapsed(conn) == 1
    assert reserved(database) == []


def test_a_member_that_leaves_while_the_gang_runs_is_told_of(database: Engine) -> None:
    job_id = summoned(database)
    joined(database, job_id)
    with database.begin() as conn:
        gangs.leave_all(conn, "b", KILLED)
        assert gangs.members(conn, job_id, 1) == [gangs.Member("b", False, KILLED)]
    with database.begin() as conn, pytest.raises(StaleFence):
        gangs.heartbeat(conn, job_id, "b", 1, 30.0)
    tell(database, job_id, m.Died(1, "x"))
    assert reserved(database) == []


def test_a_word_of_an_earlier_fence_changes_nothing_for_the_next(database: Engine) -> None:
    job_id = summoned(database)
    joined(database, job_id)
    tell(database, job_id, m.Died(1, "x"))
    with database.begin() as conn:
        gangs.leave(conn, job_id, "b", 1, KILLED)
    reserve(database, job_id, epoch=2, fence=2)
    entry = joined(database, job_id)
    assert entry is not None
    with database.begin() as conn:
        gangs.leave(conn, job_id, "b", 1, CLEAN)
        assert gangs.members(conn, job_id, 2) == [gangs.Member("b", False, None)]
        assert not gangs.heartbeat(conn, job_id, "b", 2, 30.0).cancel


def test_the_last_part_makes_a_checkpoint_whole(database: Engine) -> None:
    job_id = summoned(database)
    joined(database, job_id)

    def commit(node: str, step: int) -> Any:
        with database.begin() as conn:
            files = [{"path": f"{node}{step}", "size": 1, "sha256": "0"}]
            part = {"step": step, "samples": 8 * step, "path": f"1/{step}", "files": files}
            gangs.commit_part(conn, job_id, 1, Place(2, 0, 3, 2), node, **part)  # type: ignore[arg-type]
            return jobs.last_checkpoint(conn, job_id)

    assert commit("a", 10) is None
    assert commit("a", 20) is None
    assert [file["path"] for file in commit("b", 10).files] == ["a10", "b10"]
    last = commit("b", 20)
    assert (last.step, last.samples, sorted(file["path"] for file in last.files)) == (20, 160, ["a20", "b20"])
    with database.connect() as conn:
        assert conn.execute(select(t.checkpoint_parts)).all() == []


def test_a_cancelled_gang_is_over_for_its_members(database: Engine) -> None:
    job_id = summoned(database)
    joined(database, job_id)
    tell(database, job_id, m.Cancel())
    with database.begin() as conn:
        assert gangs.heartbeat(conn, job_id, "b", 1, 30.0).cancel
    tell(database, job_id, m.Stopped(1))
    with database.begin() as conn, pytest.raises(StaleFence):
        gangs.heartbeat(conn, job_id, "b", 1, 30.0)
