"""What the notary reads and writes: rows that wait to be sealed, the leaves of the tree, the checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, delete, func, insert, select, text

from sextant_shared.contracts import auditing, merkle
from sextant_shared.contracts.notes import Checkpoint
from sextant_shared.store import tables as t

FETCH = 5000
LOCK_SHARED = text("SELECT pg_advisory_xact_lock_shared(hashtextextended('notary', 0))")
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('notary', 0))")


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf of the tree: which row it stands for. `at` is UTC text with microseconds, `hash` the row's."""

    tenant: str
    subject_type: str
    subject_id: UUID
    seq: int
    at: str
    hash: bytes

    @property
    def tree_hash(self) -> bytes:
        """The leaf's hash in the tree."""
        fields = (self.tenant, self.subject_type, str(self.subject_id), self.seq, self.at, self.hash.hex())
        return merkle.leaf_hash(auditing.leaf(*fields))


def utc(column: Any) -> Any:
    """A moment as the log has it: UTC text with microseconds."""
    return func.to_char(func.timezone("UTC", column), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')


def now(conn: Connection) -> str:
    """The database's clock, by which the rows are dated too."""
    return str(conn.execute(select(utc(func.clock_timestamp()))).scalar_one())


def wait_for_notary(conn: Connection) -> None:
    """Wait until no notary is in the middle of a batch; none begins one before this transaction ends."""
    conn.execute(LOCK_SHARED)


def lock_size(conn: Connection) -> int:
    """How many leaves the last checkpoint is over; no other notary adds one before this transaction ends."""
    conn.execute(LOCK)
    return int(conn.execute(select(func.coalesce(func.max(t.audit_checkpoints.c.size), 0))).scalar_one())


def leaves(conn: Connection) -> Iterator[Leaf]:
    """All leaves in the order of the tree. Raises LookupError naming an index that is missing."""
    c = t.audit_leaves.c
    query = select(c.index, c.tenant, c.subject_type, c.subject_id, c.seq, utc(c.at), c.hash).order_by(c.index)
    for number, row in enumerate(conn.execution_options(yield_per=FETCH).execute(query)):
        if row[0] != number:
            raise LookupError(f"leaf {number} of the audit log is missing")
        yield Leaf(*row[1:])


def take(conn: Connection, limit: int) -> list[Leaf]:
    """The next rows to seal, taken from those that wait. Raises LookupError naming one that is gone.

    A row waits from its own transaction on, so that none is passed over, however late it commits; and a subject's rows
    wait in their order, as each was written under the lock on the subject.
    """
    queue, row = t.audit_unsealed.c, t.audit.c
    first = select(queue.position).order_by(queue.position).limit(limit).scalar_subquery()
    taken = delete(t.audit_unsealed).where(queue.position.in_(first)).returning(*queue).cte("taken")
    query = (
        select(row.tenant, row.subject_type, taken.c.subject_id, taken.c.seq, utc(row.at), row.hash)
        .outerjoin_from(taken, t.audit, (row.subject_id == taken.c.subject_id) & (row.seq == taken.c.seq))
        .order_by(taken.c.position)
    )
    found = [Leaf(*values) for values in conn.execute(query)]
    for leaf in found:
        if leaf.hash is None:
            raise LookupError(f"{leaf.subject_id} seq {leaf.seq} was taken out of the audit log before it was sealed")
    return found


def add(conn: Connection, first: int, new: list[Leaf], checkpoint: Checkpoint, note: str) -> None:
    """Store leaves from index `first` on, and the checkpoint over them."""
    rows = [
        {
            "index": first + number,
            "tenant": leaf.tenant,
            "subject_type": leaf.subject_type,
            "subject_id": leaf.subject_id,
            "seq": leaf.seq,
            "at": leaf.at,
            "hash": leaf.hash,
        }
        for number, leaf in enumerate(new)
    ]
    conn.execute(insert(t.audit_leaves), rows)
    conn.execute(insert(t.audit_checkpoints).values(size=checkpoint.size, note=note))


def notes(conn: Connection, after: int, limit: int | None = None) -> list[str]:
    """The signed checkpoints over more than `after` leaves, the smallest first."""
    c = t.audit_checkpoints.c
    return list(conn.execute(select(c.note).where(c.size > after).order_by(c.size).limit(limit)).scalars())


def expire(conn: Connection, tenant: str, before: datetime, actor: str) -> int:
    """Take out the rows of a tenant's jobs that ended before a moment at least 30 days ago; how many they were."""
    return int(conn.execute(select(func.audit_expire(tenant, before, actor))).scalar_one())
