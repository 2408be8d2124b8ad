"""The jobs of pieces: one for what a piece is made of, whoever asks for it, as long as it has or may have a result."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, text

from sextant_scheduler.handlers.submission import new_job
from sextant_shared.contracts.specs import SPEC
from sextant_shared.errors import StaleFence
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs, pieces
from sextant_shared.lifecycle.machine import Cancel, Claim, Died, Event, Fail, Job
from sextant_shared.lifecycle.states import State

TABLE = {
    "kind": "prepare",
    "name": "t",
    "source": "upload://u",
    "task": "tabular",
    "target": "y",
    "priority": 7,
}
ORDERS: dict[str, dict[str, Any]] = {"a" * 64: {"part": 1}, "b" * 64: {"part": 2}}


def leader(engine: Engine, tenant: str = "one", key: str | None = None, **spec: Any) -> Job:
    """A job that a worker has claimed."""
    told = SPEC.validate_python({**TABLE, **spec})
    new = new_job(told, tenant=tenant, actor="t", key=key or str(new_id()), inputs={"source": {"id": "u"}})
    with engine.begin() as conn:
        jobs.submit(conn, [new])
    apply(engine, new.id, Claim("w/data-prep", 60))
    with engine.begin() as conn:
        return jobs.lock(conn, new.id)[0]


def apply(engine: Engine, job_id: UUID, event: Event) -> None:
    """Let something happen to a job."""
    with engine.begin() as conn:
        jobs.insist(jobs.apply(conn, job_id, event, actor="t", rng=Random(0))[1])


def enlist(engine: Engine, parent: Job, useless: set[UUID] | None = None) -> dict[str, UUID]:
    """The jobs of both pieces."""
    with engine.begin() as conn:
        return pieces.enlist(conn, parent, ORDERS, useless or set(), "w/data-prep")


def test_a_piece_is_a_job_below_its_parent_with_its_order(database: Engine) -> None:
    parent = leader(database)
    found = enlist(database, parent)
    with database.begin() as conn:
        child, _ = jobs.lock(conn, found["b" * 64])
        looked = pieces.look(conn, list(found.values()))
        priority = conn.execute(text("SELECT priority FROM jobs WHERE id = :id"), {"id": child.id}).scalar()
    assert (child.kind, child.parent_id, child.root_id, child.tenant) == ("prepare", parent.id, parent.id, "one")
    assert child.inputs == {"source": {"id": "u"}, "piece": {"digest": "b" * 64, "order": {"part": 2}}}
    assert (child.state, priority) == (State.QUEUED, 7)
    assert {job.digest: job.id for job in looked} == found


def test_the_same_piece_is_the_same_job_for_each_parent_of_a_tenant(database: Engine) -> None:
    first = enlist(database, leader(database))
    assert enlist(database, leader(database)) == first
    other = enlist(database, leader(database, tenant="two"))
    assert not set(other.values()) & set(first.values())


def test_a_parent_that_reuses_nothing_has_pieces_of_its_own_and_finds_them_again(database: Engine) -> None:
    first = enlist(database, leader(database))
    alone = leader(database, reuse=False)
    own = enlist(database, alone)
    assert not set(own.values()) & set(first.values())
    assert enlist(database, alone) == own
    assert not set(enlist(database, leader(database, reuse=False)).values()) & set(own.values())


@pytest.mark.parametrize("ending", ["failed", "cancelled", "useless"])
def test_a_piece_without_a_result_is_made_again(database: Engine, ending: str) -> None:
    parent = leader(database)
    first = enlist(database, parent)
    lost = first["a" * 64]
    if ending == "failed":
        apply(database, lost, Claim("x", 60))
        apply(database, lost, Fail(1, {"message": "no"}, retriable=False))
    if ending == "cancelled":
        apply(database, lost, Cancel())
    again = enlist(database, parent, {lost} if ending == "useless" else None)
    assert again["b" * 64] == first["b" * 64]
    assert again["a" * 64] != lost
    assert enlist(database, leader(database), {lost}) == again


def test_a_key_that_somebody_else_took_is_passed_over(database: Engine) -> None:
    forged = leader(database, key=f"piece/{'a' * 64}/0")
    found = enlist(database, leader(database))
    assert forged.id not in found.values()


def test_who_has_lost_the_job_enlists_nobody(database: Engine) -> None:
    parent = leader(database)
    apply(database, parent.id, Died(1, "killed"))
    apply(database, parent.id, Claim("other", 60))
    with pytest.raises(StaleFence):
        enlist(database, parent)
    with database.connect() as conn:
        assert conn.execute(text("SELECT count(*) FROM jobs WHERE parent_id IS NOT NULL")).scalar() == 0
