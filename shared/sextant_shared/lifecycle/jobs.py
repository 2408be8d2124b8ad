"""The only writer of job state. Each function runs inside the caller's transaction; the caller commits, at the edge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from random import Random
from typing import Any
from uuid import UUID

from pydantic_core import to_json
from sqlalchemy import Connection, Row, RowMapping, and_, bindparam, func, insert, not_, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from sextant_shared.errors import Conflict, NotFound, StaleFence
from sextant_shared.lifecycle import machine
from sextant_shared.lifecycle.machine import Complete, Decision, Event, Job, Refused, Transition, step
from sextant_shared.lifecycle.states import State
from sextant_shared.store import tables as t

JOB_COLUMNS = [t.jobs.c[f.name] for f in fields(Job)]


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be inserted; `state` is QUEUED, or BLOCKED for a step that waits for its inputs."""

    id: UUID
    tenant: str
    kind: str
    name: str
    spec: dict[str, Any]
    body_hash: str
    idem_key: str
    root_id: UUID
    actor: str
    state: State = State.QUEUED
    inputs: dict[str, Any] | None = None
    parent_id: UUID | None = None
    step: str | None = None
    priority: int = 0
    max_attempts: int = 3
    backoff_s: float = 2.0


def own_key(*parts: object) -> str:
    """The idempotency key of a job that the platform makes by itself; whoever makes it makes the same.

    No client can have taken it: theirs are ASCII.
    """
    return "\N{MIDDLE DOT}" + "/".join(map(str, parts))


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a submission: `created` is False where the key had been used, `same_body` says whether rightly."""

    id: UUID
    state: State
    created: bool
    same_body: bool
    created_at: datetime


SUBMIT = text(
    """
    WITH item AS (
        SELECT * FROM jsonb_to_recordset(CAST(:items AS jsonb)) AS x(
            id uuid, tenant text, kind text, name text, spec jsonb, body_hash text, idem_key text, root_id uuid,
            actor text, state text, inputs jsonb, parent_id uuid, step text, priority int, max_attempts int,
            backoff_s float8)
    ), inserted AS (
        INSERT INTO jobs (id, tenant, kind, name, spec, body_hash, idem_key, root_id, actor, created_by, event, state,
                          inputs, parent_id, step, priority, max_attempts, backoff_s, detail)
        SELECT id, tenant, kind, name, spec, decode(body_hash, 'hex'), idem_key, root_id, actor, actor, 'submitted',
               state, inputs, parent_id, step, priority, max_attempts, backoff_s,
               jsonb_build_object('body_sha256', body_hash)
        FROM item ORDER BY tenant, idem_key
        ON CONFLICT (tenant, idem_key) DO NOTHING
        RETURNING id, tenant, idem_key, state, created_at
    ) SELECT * FROM inserted
    """
)


def submit(conn: Connection, jobs: Sequence[NewJob]) -> list[Submitted]:
    """Insert `jobs` in one statement; one that uses a known idempotency key gives the first job again."""
    rows = conn.execute(SUBMIT, {"items": to_json(jobs).decode()}).mappings()
    created = {(row["tenant"], row["idem_key"]): row for row in rows}
    results: list[Submitted] = []
    seen: set[tuple[str, str]] = set()
    for job in jobs:
        key = (job.tenant, job.idem_key)
        row = created.get(key)
        if row is not None and row["id"] == job.id and key not in seen:
            seen.add(key)
            results.append(Submitted(row["id"], State(row["state"]), True, True, row["created_at"]))
        else:
            results.append(_earlier(conn, job))
    return results


def _earlier(conn: Connection, job: NewJob) -> Submitted:
    columns = (t.jobs.c.id, t.jobs.c.state, t.jobs.c.body_hash, t.jobs.c.created_at)
    where = (t.jobs.c.tenant == job.tenant, t.jobs.c.idem_key == job.idem_key)
    row = conn.execute(select(*columns).where(*where)).one()
    return Submitted(row.id, State(row.state), False, row.body_hash.hex() == job.body_hash, row.created_at)


# Built once: to build a statement takes longer than to run it.
LOCK = select(*JOB_COLUMNS, func.clock_timestamp().label("now")).where(t.jobs.c.id == bindparam("id")).with_for_update()


def lock(conn: Connection, job_id: UUID, *, tenant: str | None = None) -> tuple[Job, datetime]:
    """The job's row, locked until the transaction ends, and the database's time; NotFound across tenants too."""
    row = conn.execute(LOCK, {"id": job_id}).mappings().one_or_none()
    if row is None or (tenant is not None and row["tenant"] != tenant):
        raise NotFound(f"no job {job_id}")
    return as_job(row), row["now"]


def as_job(row: RowMapping) -> Job:
    """The rules' view of a row of `jobs`."""
    values = {f.name: row[f.name] for f in fields(Job)}
    return Job(**{**values, "state": State(row["state"])})


def apply(
    conn: Connection, job_id: UUID, event: Event, *, actor: str, rng: Random, tenant: str | None = None
) -> tuple[Job, Decision]:
    """Lock the job, decide what `event` does to it, and write that with its audit and outbox rows.

    Raises NotFound. A refusal is returned, not raised: whether it matters is the caller's to say (see `insist`).
    """
    job, now = lock(conn, job_id, tenant=tenant)
    decision = step(job, event, now, rng)
    if isinstance(decision, Transition):
        _write(conn, job, decision, actor, now)
    return job, decision


def insist(decision: Decision) -> None:
    """Raise StaleFence or Conflict where the decision was a refusal."""
    if isinstance(decision, Refused):
        raise (StaleFence if decision.stale else Conflict)(decision.reason)


MOVE = update(t.jobs).where(t.jobs.c.id == bindparam("job_id"), t.jobs.c.seq == bindparam("job_seq"))
MOVE_TO_RUNNING = MOVE.values(started_at=func.coalesce(t.jobs.c.started_at, bindparam("now")))


# Members of a gang whose ranks may still be alive keep their slots: see `gangs`.
MAY_LIVE = and_(
    t.reservations.c.joined_at.is_not(None),
    t.reservations.c.ended.is_(None),
    t.reservations.c.lease_until > func.clock_timestamp(),
)
RELEASE = t.reservations.delete().where(t.reservations.c.job_id == bindparam("job_id"), not_(MAY_LIVE))


def _write(conn: Connection, job: Job, move: Transition, actor: str, now: datetime) -> None:
    values = {**machine.columns(job, move, now), "actor": actor, "job_id": job.id, "job_seq": job.seq}
    if move.state is State.RUNNING:
        conn.execute(MOVE_TO_RUNNING, {**values, "now": now})
    else:
        conn.execute(MOVE, values)
    if machine.frees_slots(job, move):
        conn.execute(RELEASE, {"job_id": job.id})


@dataclass(frozen=True, slots=True)
class Beat:
    """The answer to a heartbeat: what the job's owner wants of the attempt."""

    cancel: bool
    pause: bool


HEARTBEAT = text(
    """
    UPDATE jobs SET lease_until = clock_timestamp() + make_interval(secs => :lease_s),
                    progress = coalesce(CAST(:progress AS jsonb), progress)
    WHERE id = :id AND fence = :fence AND state IN ('RUNNING', 'PAUSING', 'CANCELLING')
      AND lease_until > clock_timestamp()
    RETURNING state
    """
)


def heartbeat(conn: Connection, job_id: UUID, fence: int, lease_s: float, progress: str | None = None) -> Beat:
    """Extend the lease. Raises StaleFence where it has run out or gone to another: stop all work at once."""
    values = {"id": job_id, "fence": fence, "lease_s": lease_s, "progress": progress}
    row = conn.execute(HEARTBEAT, values).one_or_none()
    if row is None:
        raise StaleFence(f"the lease of job {job_id} with fence {fence} is lost")
    return Beat(cancel=row.state == State.CANCELLING, pause=row.state == State.PAUSING)


def complete(
    conn: Connection,
    job_id: UUID,
    fence: int,
    *,
    files: Iterable[dict[str, Any]],
    outputs: dict[str, Any],
    actor: str,
    rng: Random,
) -> None:
    """Commit the attempt's manifest and SUCCEEDED together. Raises StaleFence where another attempt owns the job."""
    _, decision = apply(conn, job_id, Complete(fence), actor=actor, rng=rng)
    insist(decision)
    write_manifest(conn, job_id, fence, list(files), outputs)


def write_manifest(conn: Connection, job_id: UUID, fence: int, files: list[dict[str, Any]], outputs: Any) -> None:
    """Make the job's files and outputs visible; there is one manifest a job."""
    conn.execute(insert(t.manifests).values(job_id=job_id, fence=fence, files=files, outputs=outputs))


def commit_checkpoint(
    conn: Connection, job_id: UUID, fence: int, *, step: int, samples: int, path: str, files: list[dict[str, Any]]
) -> None:
    """Make a checkpoint the one to resume from. Raises StaleFence where another attempt owns the job."""
    job, _ = lock(conn, job_id)
    if job.fence != fence or not job.state.is_held:
        raise StaleFence(f"fence {fence} is no longer valid for job {job_id}")
    values = {"fence": fence, "samples": samples, "path": path, "files": files}
    statement = upsert(t.checkpoints).values(job_id=job_id, step=step, **values)
    conn.execute(statement.on_conflict_do_update(index_elements=["job_id", "step"], set_=values))


def last_checkpoint(conn: Connection, job_id: UUID) -> Row[Any] | None:
    """The newest committed checkpoint, if there is one."""
    query = select(t.checkpoints).where(t.checkpoints.c.job_id == job_id).order_by(t.checkpoints.c.step.desc()).limit(1)
    return conn.execute(query).one_or_none()


def expired(conn: Connection, limit: int) -> list[UUID]:
    """Jobs whose lease or reservation has run out, locked, for the reaper.

    A job that another transaction holds is left out: a worker that was stopped in the middle of one must not keep the
    reaper from the jobs of the others.
    """
    query = select(t.jobs.c.id).where(t.jobs.c.lease_until < func.clock_timestamp()).limit(limit)
    return list(conn.execute(query.with_for_update(skip_locked=True)).scalars())


QUEUE_ORDER = ((t.jobs.c.attempt > 0).desc(), t.jobs.c.priority.desc(), t.jobs.c.id)
"""A job that has begun goes before those that have not: what a fault hit must not wait behind all that came since."""

SAME_KIND = select(t.jobs.c.kind).where(t.jobs.c.id == bindparam("woken")).scalar_subquery()
QUEUED = select(t.jobs.c.id).where(
    # Written out: an index of these rows is found by it.
    text("state = 'QUEUED'"), t.jobs.c.kind == SAME_KIND, t.jobs.c.run_after <= func.clock_timestamp()
)  # fmt: skip
NEXT = QUEUED.order_by(*QUEUE_ORDER).limit(1).with_for_update()
NEXT_FREE = QUEUED.order_by(*QUEUE_ORDER).limit(1).with_for_update(skip_locked=True)


def next_queued(conn: Connection, woken: UUID) -> UUID | None:
    """The queued job that is first among those of the same kind as `woken`, locked; None where there is none.

    A job that another transaction holds is waited for only where there is no other: it may be held to be marked, and
    the message that was to wake somebody for it may be this one.
    """
    named = {"woken": woken}
    return conn.execute(NEXT_FREE, named).scalar() or conn.execute(NEXT, named).scalar()


def held_by(conn: Connection, owner: str) -> list[Job]:
    """Jobs whose lease a worker of this name holds, for its successor to release."""
    query = select(*JOB_COLUMNS).where(t.jobs.c.lease_owner == owner, t.jobs.c.finished_at.is_(None))
    return [as_job(row) for row in conn.execute(query).mappings()]
