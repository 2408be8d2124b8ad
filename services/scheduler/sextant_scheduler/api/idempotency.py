"""Idempotency-Key on calls other than a submission: the first answer is kept and given again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from fastapi import Request
from sqlalchemy import Connection, insert, select, text

from sextant_shared.errors import InvalidInput, KeyReused
from sextant_shared.store import tables as t

HEADER = "idempotency-key"
MAX_KEY = 255


def key_of(request: Request) -> str | None:
    """The request's key. Raises InvalidInput for one that is empty, too long or not printable ASCII."""
    key = request.headers.get(HEADER)
    if key is not None and not (0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable()):
        raise InvalidInput(
            f"the key is {len(key)} characters long or holds characters that are not accepted",
            field="Idempotency-Key",
            accepted=f"1 to {MAX_KEY} printable ASCII characters",
        )
    return key


def once(
    conn: Connection, request: Request, tenant: str, body: bytes, work: Callable[[Connection], dict[str, Any]]
) -> dict[str, Any]:
    """Do `work` in the caller's transaction, or give the answer that the same request with the same key got before.

    Raises KeyReused where the key came with another request.
    """
    key = key_of(request)
    if key is None:
        return work(conn)
    request_hash = hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body).digest()
    conn.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 1))"), {"key": f"{tenant}:{key}"})
    columns = (t.replies.c.request_hash, t.replies.c.body)
    earlier = conn.execute(select(*columns).where(t.replies.c.tenant == tenant, t.replies.c.key == key)).one_or_none()
    if earlier is not None:
        if earlier.request_hash != request_hash:
            raise KeyReused(field="Idempotency-Key", accepted="a new key for each new request")
        return dict(earlier.body)
    answer = work(conn)
    row = {"tenant": tenant, "key": key, "request_hash": request_hash, "status": 200, "body": answer}
    conn.execute(insert(t.replies).values(row))
    return answer
