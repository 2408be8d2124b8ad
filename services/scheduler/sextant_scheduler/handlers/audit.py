"""Checking the audit log: every chain of hashes from its first row, and every job against its last row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, exists, func, select

from sextant_shared.contracts.views import AuditVerdict
from sextant_shared.store import tables as t

FETCH = 1000


def row_hash(row: Any, prev: bytes) -> bytes:
    """The hash that a row must have: SHA-256(0x01 || prev || JSON of its fields), as the database computes it."""
    fields = [
        row.subject_type,
        str(row.subject_id),
        row.seq,
        row.at_utc,
        row.actor,
        row.event,
        row.from_state,
        row.to_state,
        row.fence,
        row.attempt,
        hashlib.sha256(row.body.encode()).hexdigest(),
    ]
    header = json.dumps(fields, ensure_ascii=False).encode()
    return hashlib.sha256(b"\x01" + prev + header).digest()


def verify(conn: Connection, tenant: str, subject: UUID | None = None) -> AuditVerdict:
    """Recompute the chains of a tenant, or of one subject; the first row that does not hold is named."""
    rows = subjects = 0
    previous: Any = None
    for row in _rows(conn, tenant, subject):
        rows += 1
        first = previous is None or previous.subject_id != row.subject_id
        subjects += first
        expected_prev = b"" if first else previous.hash
        expected_seq = 1 if first else previous.seq + 1
        if row.seq != expected_seq or row.prev_hash != expected_prev or row_hash(row, row.prev_hash) != row.hash:
            return _tampered(rows, subjects, f"{row.subject_type} {row.subject_id} seq {row.seq}")
        previous = row
    if bad := _headless(conn, tenant, subject):
        return _tampered(rows, subjects, bad)
    return AuditVerdict(verdict="ok", rows=rows, subjects=subjects)


def _tampered(rows: int, subjects: int, bad: str) -> AuditVerdict:
    return AuditVerdict(verdict="tampered", rows=rows, subjects=subjects, first_bad=bad)


def _rows(conn: Connection, tenant: str, subject: UUID | None) -> Iterator[Any]:
    utc = _utc_text()
    query = select(t.audit, utc).where(t.audit.c.tenant == tenant).order_by(t.audit.c.subject_id, t.audit.c.seq)
    if subject is not None:
        query = query.where(t.audit.c.subject_id == subject)
    yield from conn.execution_options(yield_per=FETCH).execute(query)


def _utc_text() -> Any:
    return func.to_char(func.timezone("UTC", t.audit.c.at), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"').label("at_utc")


def _headless(conn: Connection, tenant: str, subject: UUID | None) -> str | None:
    """A job whose row is not what the last row of its chain says: the tail was cut, or the job itself edited."""
    head = t.audit.c
    agrees = exists().where(
        head.subject_id == t.jobs.c.id,
        head.seq == t.jobs.c.seq,
        head.hash == t.jobs.c.audit_hash,
        head.to_state == t.jobs.c.state,
        head.fence == t.jobs.c.fence,
    )
    query = select(t.jobs.c.id, t.jobs.c.seq).where(t.jobs.c.tenant == tenant, ~agrees).order_by(t.jobs.c.id).limit(1)
    if subject is not None:
        query = query.where(t.jobs.c.id == subject)
    bad = conn.execute(query).one_or_none()
    return f"job {bad.id} does not agree with its audit row seq {bad.seq}" if bad else None
