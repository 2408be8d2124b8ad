"""What the control process reads and marks: the outbox, waiting jobs, nodes and slots."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, delete, func, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert

from sextant_scheduler.domain.placement import Node, Waiting
from sextant_scheduler.domain.rounds import Message
from sextant_shared.contracts.messages import NodeAlive
from sextant_shared.contracts.specs import CELERY_KINDS
from sextant_shared.lifecycle.jobs import QUEUE_ORDER
from sextant_shared.lifecycle.machine import GANG_KINDS
from sextant_shared.lifecycle.states import State
from sextant_shared.store import tables as t

PLACEMENT_LOCK = 0x5E_87_A4_72


def unpublished(conn: Connection, limit: int) -> list[Message]:
    """Outbox rows to publish, locked; rows that another relay holds are left to it.

    By the flag and not by "id beyond the last seen": ids commit out of order, and a late one would be skipped for ever.
    """
    query = select(t.outbox.c.id, t.outbox.c.msg_id, t.outbox.c.subject, t.outbox.c.payload)
    waiting = query.where(t.outbox.c.published_at.is_(None)).order_by(t.outbox.c.id)
    rows = conn.execute(waiting.limit(limit).with_for_update(skip_locked=True))
    return [Message(row.id, row.msg_id, row.subject, row.payload) for row in rows]


def mark_published(conn: Connection, ids: Sequence[int]) -> None:
    """Remember that JetStream has acknowledged these rows."""
    conn.execute(update(t.outbox).where(t.outbox.c.id.in_(ids)).values(published_at=func.clock_timestamp()))


def trim_outbox(conn: Connection, kept_s: float, limit: int) -> int:
    """Delete rows that were published longer ago; the number deleted. The audit log has the same events for ever."""
    age = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, kept_s)
    old = select(t.outbox.c.id).where(t.outbox.c.published_at < age).order_by(t.outbox.c.id).limit(limit)
    return conn.execute(delete(t.outbox).where(t.outbox.c.id.in_(old))).rowcount


def trim_replies(conn: Connection, kept_s: float, limit: int) -> int:
    """Delete answers that were kept longer for their idempotency keys; the number deleted."""
    age = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, kept_s)
    columns = (t.replies.c.tenant, t.replies.c.key)
    old = select(*columns).where(t.replies.c.at < age).order_by(t.replies.c.at).limit(limit)
    return conn.execute(delete(t.replies).where(tuple_(*columns).in_(old))).rowcount


def outbox_lag(conn: Connection) -> tuple[int, float]:
    """The number of unpublished rows, and the age of the oldest in seconds."""
    age = func.coalesce(func.extract("epoch", func.clock_timestamp() - func.min(t.outbox.c.created_at)), 0)
    row = conn.execute(select(func.count(), age).where(t.outbox.c.published_at.is_(None))).one()
    return int(row[0]), float(row[1])


TO_DISPATCH = text(
    """
    SELECT id, kind FROM jobs
    WHERE state = 'QUEUED' AND kind = ANY(:kinds) AND run_after <= clock_timestamp()
      AND (dispatched_at IS NULL OR dispatched_at < clock_timestamp() - make_interval(secs => :again_s))
    ORDER BY (attempt > 0) DESC, priority DESC, id LIMIT :limit
    """
)


def to_dispatch(conn: Connection, again_s: float, limit: int) -> list[tuple[UUID, str]]:
    """Queued jobs whose worker has not been woken, or not lately, in the order in which to wake it."""
    rows = conn.execute(TO_DISPATCH, {"kinds": list(CELERY_KINDS), "again_s": again_s, "limit": limit})
    return [(row.id, row.kind) for row in rows]


def mark_dispatched(conn: Connection, ids: Sequence[UUID]) -> None:
    """Remember that the workers for these jobs were woken, unless they have begun meanwhile or are about to."""
    where = (t.jobs.c.id.in_(ids), t.jobs.c.state == State.QUEUED)
    waiting = select(t.jobs.c.id).where(*where).with_for_update(skip_locked=True)
    conn.execute(update(t.jobs).where(t.jobs.c.id.in_(waiting)).values(dispatched_at=func.clock_timestamp()))


def forget_dispatched(conn: Connection, kinds: Sequence[str], sent_s: float) -> int:
    """Let queued jobs that were sent to these queues so long ago be sent again; their number."""
    before = func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, sent_s)
    where = (t.jobs.c.state == State.QUEUED, t.jobs.c.kind.in_(kinds), t.jobs.c.dispatched_at <= before)
    waiting = select(t.jobs.c.id).where(*where).with_for_update(skip_locked=True)
    return conn.execute(update(t.jobs).where(t.jobs.c.id.in_(waiting)).values(dispatched_at=None)).rowcount


def unpublish(conn: Connection) -> int:
    """Let every kept row of the outbox be published again; their number."""
    return conn.execute(update(t.outbox).where(t.outbox.c.published_at.is_not(None)).values(published_at=None)).rowcount


def waiting_gangs(conn: Connection, limit: int) -> list[Waiting]:
    """Queued jobs that take slots, in the order in which they are placed, without those of which ranks may live."""
    resources = t.jobs.c.spec["resources"]
    ranks, least = resources["ranks"].as_integer(), resources["min_ranks"].as_integer()
    query = select(t.jobs.c.id, ranks.label("ranks"), least.label("least"))
    due = t.jobs.c.run_after <= func.clock_timestamp()
    ready = (t.jobs.c.kind.in_(GANG_KINDS), t.jobs.c.state == State.QUEUED, due)
    gone = ~select(t.reservations.c.node).where(t.reservations.c.job_id == t.jobs.c.id).exists()
    rows = conn.execute(query.where(*ready, gone).order_by(*QUEUE_ORDER).limit(limit))
    return [Waiting(row.id, row.ranks or 1, row.least or row.ranks or 1) for row in rows]


def lock_placement(conn: Connection) -> bool:
    """Whether this transaction may place gangs; one at a time, whoever comes second has nothing to do."""
    return bool(conn.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": PLACEMENT_LOCK}).scalar_one())


def live_nodes(conn: Connection, timeout_s: float) -> list[Node]:
    """Nodes that take new work, with the slots that no gang holds."""
    used = func.coalesce(func.sum(t.reservations.c.slots), 0)
    alive = t.nodes.c.last_seen > func.clock_timestamp() - func.make_interval(0, 0, 0, 0, 0, 0, timeout_s)
    query = (
        select(t.nodes.c.name, t.nodes.c.slots, (t.nodes.c.slots - used).label("free"))
        .outerjoin(t.reservations, t.reservations.c.node == t.nodes.c.name)
        .where(alive, t.nodes.c.state == "READY")
        .group_by(t.nodes.c.name, t.nodes.c.slots)
        .order_by(t.nodes.c.name)
    )
    return [Node(row.name, row.slots, max(0, int(row.free))) for row in conn.execute(query)]


def due_retries(conn: Connection, limit: int) -> list[UUID]:
    """Jobs whose time to be tried again has come, locked; those that another transaction holds are left out."""
    due = (t.jobs.c.state == State.RETRY_WAIT, t.jobs.c.run_after <= func.clock_timestamp())
    query = select(t.jobs.c.id).where(*due).limit(limit)
    return list(conn.execute(query.with_for_update(skip_locked=True)).scalars())


def open_pipelines(conn: Connection) -> list[UUID]:
    """Pipelines that have not ended."""
    query = select(t.jobs.c.id).where(t.jobs.c.kind == "pipeline", t.jobs.c.finished_at.is_(None))
    return list(conn.execute(query).scalars())


def children(conn: Connection, parent_id: UUID) -> Sequence[Row[*tuple[Any, ...]]]:
    """The jobs that a controller made, with their outputs."""
    query = (
        select(t.jobs.c.id, t.jobs.c.step, t.jobs.c.state, t.manifests.c.outputs)
        .outerjoin(t.manifests, t.manifests.c.job_id == t.jobs.c.id)
        .where(t.jobs.c.parent_id == parent_id)
        .order_by(t.jobs.c.id)
    )
    return conn.execute(query).all()


def record_node(conn: Connection, alive: NodeAlive) -> None:
    """A node said that it is alive."""
    state = "DRAINING" if alive.draining else "READY"
    values = {"slots": alive.slots, "instance": alive.instance, "state": state, "info": alive.info}
    statement = upsert(t.nodes).values(name=alive.name, **values)
    seen = {**values, "last_seen": func.clock_timestamp()}
    conn.execute(statement.on_conflict_do_update(index_elements=["name"], set_=seen))


def mark_silent(conn: Connection, timeout_s: float, forgotten_s: float) -> None:
    """Show nodes that have not been heard of as such, and forget those that have not for long."""
    now = func.clock_timestamp()
    silent = t.nodes.c.last_seen < now - func.make_interval(0, 0, 0, 0, 0, 0, timeout_s)
    conn.execute(update(t.nodes).where(silent, t.nodes.c.state != "SILENT").values(state="SILENT"))
    gone = t.nodes.c.last_seen < now - func.make_interval(0, 0, 0, 0, 0, 0, forgotten_s)
    held = select(t.reservations.c.node)
    conn.execute(delete(t.nodes).where(gone, t.nodes.c.name.not_in(held)))


def counts_by_state(conn: Connection) -> list[tuple[str, str, int]]:
    """The number of jobs by kind and state, for the metrics."""
    query = select(t.jobs.c.kind, t.jobs.c.state, func.count()).group_by(t.jobs.c.kind, t.jobs.c.state)
    return [(row[0], row[1], row[2]) for row in conn.execute(query)]
