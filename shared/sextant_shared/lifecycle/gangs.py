"""The nodes of a gang: who has which ranks, where they meet, and who is still there.

The node with rank 0 leads: it claims the job and holds its lease. The others are members, whose own leases say that
their ranks may be alive: their slots are taken, and the job is not started again, until those have left or lapsed. A
member works for one fence of the job. Each function runs inside the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, select, text, update

from sextant_shared.errors import StaleFence
from sextant_shared.lifecycle.jobs import Beat, commit_checkpoint, lock
from sextant_shared.lifecycle.machine import Job
from sextant_shared.lifecycle.place import Place
from sextant_shared.lifecycle.states import HELD, State
from sextant_shared.store import tables as t

MINE = and_(t.reservations.c.job_id == bindparam("job"), t.reservations.c.node == bindparam("of"))
OF_JOB = and_(t.jobs.c.id == t.reservations.c.job_id, t.jobs.c.fence == t.reservations.c.fence)
LIVE_JOB = and_(OF_JOB, t.jobs.c.state.in_(HELD))


@dataclass(frozen=True, slots=True)
class Member:
    """A node of a running gang besides the one that leads, as it stands now."""

    node: str
    lapsed: bool
    """Whether it did not join in time, or has fallen silent."""
    ended: dict[str, Any] | None
    """How its ranks ended, if they have: see `leave`."""


def reserve(conn: Connection, job_id: UUID, epoch: int, shares: Mapping[str, int]) -> None:
    """Take slots for a gang: ranks by node, the leading node first."""
    rows: list[dict[str, Any]] = []
    first = 0
    for node, ranks in shares.items():
        rows.append({"job_id": job_id, "node": node, "epoch": epoch, "slots": ranks, "first_rank": first})
        first += ranks
    conn.execute(insert(t.reservations), rows)


def place_of(conn: Connection, job_id: UUID, node: str) -> Place:
    """A node's part of the gang."""
    rows = conn.execute(select(t.reservations).where(t.reservations.c.job_id == job_id)).all()
    mine = next(row for row in rows if row.node == node)
    world = sum(row.slots for row in rows)
    return Place(mine.slots, mine.first_rank, world, len(rows), mine.meeting)


def summon(conn: Connection, job_id: UUID, fence: int, node: str, meeting: str, within_s: float) -> None:
    """Call the members to the address where the ranks meet; they have so many seconds. `node` is the leader's.

    Raises StaleFence where another attempt owns the job.
    """
    _insist(conn, job_id, fence)
    others = and_(t.reservations.c.job_id == job_id, t.reservations.c.node != node)
    values = {"fence": fence, "meeting": meeting, "lease_until": _from_now(within_s)}
    conn.execute(update(t.reservations).where(others).values(values))


def summoned(conn: Connection, node: str) -> list[UUID]:
    """Jobs whose gangs wait for this node to join."""
    called = and_(t.reservations.c.node == node, t.reservations.c.meeting.is_not(None))
    waiting = and_(called, t.reservations.c.joined_at.is_(None), t.reservations.c.lease_until > func.clock_timestamp())
    return list(conn.execute(select(t.reservations.c.job_id).join(t.jobs, LIVE_JOB).where(waiting)).scalars())


def join(conn: Connection, job_id: UUID, node: str, lease_s: float) -> tuple[Job, Place] | None:
    """Become a member: the job as its leader has claimed it, and the node's place. None where nobody waits for it."""
    job, _ = lock(conn, job_id)
    called = and_(MINE, t.reservations.c.fence == job.fence, t.reservations.c.joined_at.is_(None))
    in_time = t.reservations.c.lease_until > func.clock_timestamp()
    values = {"joined_at": func.clock_timestamp(), "lease_until": _from_now(lease_s)}
    joined = update(t.reservations).where(called, in_time).values(values)
    if not job.state.is_held or not conn.execute(joined, {"job": job_id, "of": node}).rowcount:
        return None
    return job, place_of(conn, job_id, node)


BEAT = text(
    """
    UPDATE reservations r SET lease_until = clock_timestamp() + make_interval(secs => :lease_s)
    FROM jobs j
    WHERE r.job_id = :job_id AND r.node = :node AND r.fence = :fence AND r.ended IS NULL
      AND r.lease_until > clock_timestamp()
      AND j.id = r.job_id AND j.fence = r.fence AND j.state IN ('RUNNING', 'PAUSING', 'CANCELLING')
    RETURNING j.state
    """
)


def heartbeat(conn: Connection, job_id: UUID, node: str, fence: int, lease_s: float) -> Beat:
    """Extend a member's lease. Raises StaleFence where the gang is over or the member too late: stop all work at once.

    A pause is the leader's to begin.
    """
    values = {"job_id": job_id, "node": node, "fence": fence, "lease_s": lease_s}
    row = conn.execute(BEAT, values).one_or_none()
    if row is None:
        raise StaleFence(f"node {node} is no longer a member of job {job_id} with fence {fence}")
    return Beat(cancel=row.state == State.CANCELLING, pause=False)


def leave(conn: Connection, job_id: UUID, node: str, fence: int, ended: dict[str, Any]) -> None:
    """The member's ranks are gone, and this is how; its slots are free as soon as the gang does without it."""
    job, _ = lock(conn, job_id)
    mine = and_(MINE, t.reservations.c.fence == fence)
    where = {"job": job_id, "of": node}
    if job.fence == fence and job.state.is_held:
        conn.execute(update(t.reservations).where(mine).values(ended=ended), where)
    else:
        conn.execute(delete(t.reservations).where(mine), where)


def leave_all(conn: Connection, node: str, ended: dict[str, Any]) -> None:
    """What an earlier process of this node had joined is gone; to be called when nothing of it can be alive."""
    joined = (t.reservations.c.node == node, t.reservations.c.joined_at.is_not(None), t.reservations.c.ended.is_(None))
    for row in conn.execute(select(t.reservations.c.job_id, t.reservations.c.fence).where(*joined)).all():
        leave(conn, row.job_id, node, row.fence, ended)


def members(conn: Connection, job_id: UUID, fence: int) -> list[Member]:
    """The members that were called for this fence."""
    lapsed = (t.reservations.c.lease_until < func.clock_timestamp()).label("lapsed")
    query = select(t.reservations.c.node, lapsed, t.reservations.c.ended).order_by(t.reservations.c.first_rank)
    rows = conn.execute(query.where(t.reservations.c.job_id == job_id, t.reservations.c.fence == fence))
    return [Member(row.node, row.lapsed and row.ended is None, row.ended) for row in rows]


def commit_part(
    conn: Connection,
    job_id: UUID,
    fence: int,
    place: Place,
    node: str,
    *,
    step: int,
    samples: int,
    path: str,
    files: Sequence[dict[str, Any]],
) -> None:
    """A node's part of a checkpoint is stored; the last of the parts makes the checkpoint the one to resume from.

    Raises StaleFence where another attempt owns the job.
    """
    _insist(conn, job_id, fence)
    part = {"job_id": job_id, "fence": fence, "step": step, "node": node}
    conn.execute(insert(t.checkpoint_parts).values(**part, files=list(files)))
    of_job = and_(t.checkpoint_parts.c.job_id == job_id, t.checkpoint_parts.c.step <= step)
    this = and_(of_job, t.checkpoint_parts.c.step == step, t.checkpoint_parts.c.fence == fence)
    parts = conn.execute(select(t.checkpoint_parts.c.files).where(this)).scalars().all()
    if len(parts) == place.nodes:
        whole = [file for part in parts for file in part]
        commit_checkpoint(conn, job_id, fence, step=step, samples=samples, path=path, files=whole)
        conn.execute(delete(t.checkpoint_parts).where(of_job))


def distrust(conn: Connection, nodes: Collection[str]) -> None:
    """Give nodes that did not keep their lease no new work until they say again that they live."""
    if nodes:
        conn.execute(update(t.nodes).where(t.nodes.c.name.in_(nodes)).values(state="SILENT"))


def release_lapsed(conn: Connection) -> int:
    """Free what members hold who fell silent and whose gang is over; the number of nodes."""
    over = ~select(t.jobs.c.id).where(LIVE_JOB).exists()
    lapsed = t.reservations.c.lease_until < func.clock_timestamp()
    return conn.execute(delete(t.reservations).where(lapsed, over)).rowcount


def _insist(conn: Connection, job_id: UUID, fence: int) -> None:
    job, _ = lock(conn, job_id)
    if job.fence != fence or not job.state.is_held:
        raise StaleFence(f"fence {fence} is no longer valid for job {job_id}")


def _from_now(seconds: float) -> Any:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
