"""Routes for operators: nodes, the audit log, API keys."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from pydantic import Field

from sextant_scheduler.api.context import Administers, Here, ReadsAudit, ReadsNodes
from sextant_scheduler.api.idempotency import once
from sextant_scheduler.api.jobs import Limit
from sextant_scheduler.handlers import audit, keys
from sextant_scheduler.store import reads
from sextant_shared.contracts.base import Accepted, Name
from sextant_shared.contracts.views import AuditVerdict, AuditView, KeyView, NodeView, Page
from sextant_shared.errors import InvalidInput
from sextant_shared.security import SCOPES, Secret

router = APIRouter(prefix="/v1")
SEQ_DIGITS = 9
AuditCursor = Annotated[
    str | None,
    Query(
        json_schema_extra={"pattern": f"^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}:[0-9]{{1,{SEQ_DIGITS}}}$"}
    ),
]


class NewKey(Accepted):
    """A key to make."""

    name: Name
    scopes: list[Annotated[str, Field(json_schema_extra={"enum": [*SCOPES]})]] = Field(
        min_length=1, max_length=len(SCOPES)
    )
    expires_in_days: int | None = Field(None, ge=1, le=3650)


@router.get("/nodes", tags=["nodes"])
async def nodes(here: Here, who: ReadsNodes) -> Page[NodeView]:
    """The trainer nodes and their slots."""
    return Page(items=await here.read(reads.nodes))


@router.get("/audit", tags=["audit"])
async def audit_log(
    here: Here, who: ReadsAudit, subject: UUID | None = None, limit: Limit = 100, cursor: AuditCursor = None
) -> Page[AuditView]:
    """Rows of the audit log, by subject and sequence."""
    after = _after(cursor)
    items = await here.read(lambda conn: reads.audit_page(conn, who.tenant, subject=subject, after=after, limit=limit))
    last = items[-1] if len(items) == limit else None
    return Page(items=items, next=f"{last.subject_id}:{last.seq}" if last else None)


@router.get("/audit/verify", tags=["audit"])
async def verify(here: Here, who: ReadsAudit, job: UUID | None = None) -> AuditVerdict:
    """Recompute the hash chains of the audit log, and compare each job with its last row."""
    return await here.read(lambda conn: audit.verify(conn, who.tenant, job))


@router.post("/keys", status_code=201, tags=["keys"])
async def create_key(body: NewKey, request: Request, here: Here, who: Administers) -> KeyView:
    """Make an API key. Its secret is shown once: the same request again gives the same key without it."""
    unknown = sorted(set(body.scopes) - set(SCOPES))
    if unknown:
        raise InvalidInput(f"unknown scope {unknown[0][:80]!r}", field="scopes", accepted=", ".join(SCOPES))
    raw, secret = await request.body(), Secret.new()
    fresh: list[KeyView] = []

    def create(conn: Any) -> dict[str, Any]:
        fresh.append(keys.create(conn, who, secret, body.name, body.scopes, body.expires_in_days))
        return fresh[0].model_dump(mode="json")

    kept = await here.write(lambda conn: once(conn, request, who.tenant, raw, create))
    return KeyView.model_validate({**kept, "secret": str(secret) if fresh else None})


@router.get("/keys", tags=["keys"])
async def list_keys(here: Here, who: Administers) -> Page[KeyView]:
    """The API keys, without their secrets."""
    return Page(items=await here.read(lambda conn: reads.keys(conn, who.tenant)))


@router.delete("/keys/{key_id}", tags=["keys"])
async def revoke_key(key_id: UUID, request: Request, here: Here, who: Administers) -> KeyView:
    """Revoke a key. It may work for some seconds more."""

    def work(conn: Any) -> dict[str, Any]:
        return once(conn, request, who.tenant, b"", lambda c: keys.revoke(c, who, key_id).model_dump(mode="json"))

    return KeyView.model_validate(await here.write(work))


def _after(cursor: str | None) -> tuple[UUID, int] | None:
    if cursor is None:
        return None
    subject, _, seq = cursor.partition(":")
    try:
        if len(seq) > SEQ_DIGITS:
            raise ValueError
        return UUID(subject), int(seq)
    except ValueError:
        raise InvalidInput(
            "not a cursor of this list", field="cursor", accepted="the `next` of the page before"
        ) from None
