"""Jobs that do pieces of another: found by what a piece is made of, so that it is done once. Inside the caller's
transaction, as in `jobs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import Connection, select

from sextant_shared.errors import StaleFence
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import Job
from sextant_shared.lifecycle.states import State
from sextant_shared.store import tables as t

PIECE = "piece"
"""The input that holds a piece's digest and order; no submission can name it."""
LOST = (State.FAILED, State.CANCELLED, State.SKIPPED, State.QUARANTINED)
"""States that a piece's job does not leave by itself, and that leave no result."""


@dataclass(frozen=True, slots=True)
class PieceJob:
    """The job of a piece as it is now."""

    id: UUID
    digest: str
    parent_id: UUID | None
    state: State
    fence: int
    error: dict[str, Any] | None


def enlist(
    conn: Connection, parent: Job, orders: Mapping[str, dict[str, Any]], useless: Collection[UUID], actor: str
) -> dict[str, UUID]:
    """The job of each piece, by digest: one that there is already, whoever it was made for, or else a new one.

    Where the parent's spec has no `reuse`, only those made for it count.

    Jobs that ended without a result before, and the `useless` ones, are left as they are. Raises StaleFence where
    another attempt owns the parent.
    """
    owner, _ = jobs.lock(conn, parent.id)
    if owner.fence != parent.fence or not owner.state.is_held:
        raise StaleFence(f"fence {parent.fence} is no longer valid for job {parent.id}")
    found: dict[str, UUID] = {}
    tries = 0
    while missing := [digest for digest in orders if digest not in found]:
        news = [_job(parent, digest, orders[digest], tries, actor) for digest in missing]
        told = jobs.submit(conn, news)
        known = {job.id: job for job in look(conn, [one.id for one in told])}
        for digest, one in zip(missing, told, strict=True):
            job = known.get(one.id)
            if one.created or (job and job.digest == digest and job.state not in LOST and job.id not in useless):
                found[digest] = one.id
        tries += 1
    return found


def _job(parent: Job, digest: str, order: dict[str, Any], tries: int, actor: str) -> jobs.NewJob:
    step = f"{PIECE}-{digest[:12]}" + (f"-{tries}" if tries else "")
    scope = PIECE if parent.spec.get("reuse", True) else f"{PIECE}/{parent.id}"
    inputs = {**(parent.inputs or {}), PIECE: {"digest": digest, "order": order}}
    return jobs.NewJob(
        id=new_id(),
        tenant=parent.tenant,
        kind=parent.kind,
        name=f"{parent.name}.{step}",
        spec=parent.spec,
        body_hash=hashlib.sha256(to_json([parent.spec, inputs])).hexdigest(),
        idem_key=jobs.own_key(scope, digest, tries),
        root_id=parent.root_id,
        actor=actor,
        inputs=inputs,
        parent_id=parent.id,
        step=step,
        priority=int(parent.spec.get("priority", 0)),
        max_attempts=parent.max_attempts,
        backoff_s=parent.backoff_s,
    )


def look(conn: Connection, ids: Sequence[UUID]) -> list[PieceJob]:
    """The jobs with these ids that do pieces, the oldest first."""
    digest = t.jobs.c.inputs[PIECE]["digest"].astext.label("digest")
    columns = (t.jobs.c.id, digest, t.jobs.c.parent_id, t.jobs.c.state, t.jobs.c.fence, t.jobs.c.error)
    rows = conn.execute(select(*columns).where(t.jobs.c.id.in_(ids), digest.is_not(None)).order_by(t.jobs.c.id))
    return [PieceJob(row.id, row.digest, row.parent_id, State(row.state), row.fence, row.error) for row in rows]


def files_of(conn: Connection, job_id: UUID) -> list[dict[str, Any]]:
    """The files of a piece that is done."""
    query = select(t.manifests.c.files).where(t.manifests.c.job_id == job_id)
    return list(conn.execute(query).scalar_one_or_none() or ())
