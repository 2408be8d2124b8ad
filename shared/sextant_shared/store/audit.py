"""Audit rows of what is not a job: keys, endpoints, uploads. A job's rows come from the database's own triggers."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, cast, func, literal, select
from sqlalchemy.dialects.postgresql import JSONB

Subject = Literal["key", "endpoint", "upload", "store"]
STORE = UUID(int=0)
"""The subject of what befalls the store as a whole."""


def append(
    conn: Connection,
    subject: Subject,
    subject_id: UUID,
    *,
    tenant: str,
    actor: str,
    event: str,
    detail: dict[str, Any],
    from_state: str | None = None,
    to_state: str | None = None,
) -> None:
    """Add the next row of the subject's chain, and its outbox row; the caller holds a lock on the subject's own row."""
    body = cast(literal(detail, JSONB), JSONB)
    call = func.audit_append(subject, subject_id, tenant, actor, event, from_state, to_state, body)
    conn.execute(select(call))
