"""The audit log as JSON lines, as of one moment: for keeping, and for checking without trust in this server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, exists, select

from sextant_scheduler.store.sealing import Leaf, now, utc, wait_for_notary
from sextant_shared.contracts.auditing import FORMAT, HEADER_FIELDS
from sextant_shared.store import tables as t

FETCH = 1000


def moment(conn: Connection) -> str:
    """A moment for `lines`: every checkpoint that was signed before it is committed when this returns."""
    wait_for_notary(conn)
    return now(conn)


def lines(conn: Connection, at: str, tenant: str, subject: UUID | None = None) -> Iterator[str]:
    """The lines that `sextant_shared.contracts.auditing` describes, as of `at` or a little later.

    The connection is at REPEATABLE READ, and its transaction began after the one that gave the `moment`.

    Rows of other tenants, and of other subjects where `subject` is given, appear as the hashes of their leaves alone:
    enough to compute the tree.
    """
    yield _line({"log": FORMAT, "tenant": tenant, "at": at, "subject": str(subject) if subject else None})
    counts = {"sealed": 0, "unsealed": 0, "jobs": 0}
    for kind, records in (
        ("sealed", _sealed(conn, tenant, subject)),
        ("unsealed", _unsealed(conn, tenant, subject)),
        ("jobs", _jobs(conn, tenant, subject)),
    ):
        for record in records:
            counts[kind] += 1
            yield _line(record)
    yield _line({"end": counts})


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n"


def _columns() -> list[Any]:
    a = t.audit.c
    header = [utc(a.at).label("row_at") if name == "at" else a[name].label(f"row_{name}") for name in HEADER_FIELDS]
    return [*header, a.tenant.label("row_tenant"), a.body, a.prev_hash, a.hash.label("row_hash")]


def _row(found: Any) -> dict[str, Any]:
    row = {name: getattr(found, f"row_{name}") for name in HEADER_FIELDS}
    row["subject_id"] = str(row["subject_id"])
    rest = {"tenant": found.row_tenant, "body": found.body, "prev_hash": found.prev_hash.hex()}
    return {**row, **rest, "hash": found.row_hash.hex()}


def _sealed(conn: Connection, tenant: str, subject: UUID | None) -> Iterator[dict[str, Any]]:
    leaf, a = t.audit_leaves.c, t.audit.c
    query = (
        select(*leaf, utc(leaf.at).label("leaf_at"), *_columns())
        .outerjoin_from(t.audit_leaves, t.audit, (a.subject_id == leaf.subject_id) & (a.seq == leaf.seq))
        .order_by(leaf.index)
    )
    for found in conn.execution_options(yield_per=FETCH).execute(query):
        whose = Leaf(found.tenant, found.subject_type, found.subject_id, found.seq, found.leaf_at, found.hash)
        record: dict[str, Any] = {"index": found.index, "leaf": whose.tree_hash.hex()}
        if found.tenant == tenant and subject in (None, found.subject_id):
            if found.row_hash is None:
                gone = {"tenant": tenant, "subject_type": found.subject_type, "subject_id": str(found.subject_id)}
                record["gone"] = {**gone, "seq": found.seq, "at": found.leaf_at, "hash": found.hash.hex()}
            else:
                record["row"] = _row(found)
        elif found.tenant == tenant and found.row_event == "audit.expired":
            record["row"] = _row(found)
        yield record


def _unsealed(conn: Connection, tenant: str, subject: UUID | None) -> Iterator[dict[str, Any]]:
    a, leaf, queue = t.audit.c, t.audit_leaves.c, t.audit_unsealed.c
    is_sealed = exists().where(leaf.subject_id == a.subject_id, leaf.seq == a.seq)
    waits = exists().where(queue.subject_id == a.subject_id, queue.seq == a.seq)
    query = select(*_columns(), waits.label("waits")).where(a.tenant == tenant, ~is_sealed)
    if subject is not None:
        query = query.where(a.subject_id == subject)
    for found in conn.execution_options(yield_per=FETCH).execute(query.order_by(a.subject_id, a.seq)):
        yield {"row": _row(found), "waits": found.waits}


def _jobs(conn: Connection, tenant: str, subject: UUID | None) -> Iterator[dict[str, Any]]:
    c = t.jobs.c
    query = select(c.id, c.state, c.seq, c.fence, c.audit_hash).where(c.tenant == tenant).order_by(c.id)
    if subject is not None:
        query = query.where(c.id == subject)
    for found in conn.execution_options(yield_per=FETCH).execute(query):
        head = {"state": found.state, "seq": found.seq, "fence": found.fence, "hash": found.audit_hash.hex()}
        yield {"job": {"id": str(found.id), **head}}
