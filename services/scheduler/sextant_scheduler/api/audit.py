"""Routes of the audit log: its rows page by page, the whole log to keep and check, its checkpoints, its expiry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import StreamingResponse

from sextant_scheduler.api.context import Administers, Context, Guarded, Here, ReadsAudit
from sextant_scheduler.api.idempotency import once
from sextant_scheduler.api.jobs import Limit
from sextant_scheduler.store import log, reads, sealing
from sextant_shared.contracts.auditing import KEPT_AT_LEAST
from sextant_shared.contracts.base import Accepted, Moment
from sextant_shared.contracts.views import AuditView, CheckpointsView, ExpiredView, Page
from sextant_shared.errors import InvalidInput

router = APIRouter(route_class=Guarded, prefix="/v1/audit", tags=["audit"])
SEQ_DIGITS = 9
CHECKPOINTS = 1000
CHUNK_LINES = 500
AuditCursor = Annotated[
    str | None,
    Query(
        json_schema_extra={"pattern": f"^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}:[0-9]{{1,{SEQ_DIGITS}}}$"}
    ),
]


class Expiry(Accepted):
    """Which rows are no longer wanted."""

    before: Moment


@router.get("")
async def audit_log(
    here: Here, who: ReadsAudit, subject: UUID | None = None, limit: Limit = 100, cursor: AuditCursor = None
) -> Page[AuditView]:
    """Rows of the audit log, by subject and sequence."""
    after = _after(cursor)
    items = await here.read(lambda conn: reads.audit_page(conn, who.tenant, subject=subject, after=after, limit=limit))
    last = items[-1] if len(items) == limit else None
    return Page(items=items, next=f"{last.subject_id}:{last.seq}" if last else None)


@router.get(
    "/log", response_class=StreamingResponse, responses={200: {"content": {"application/x-ndjson": {"schema": {}}}}}
)
async def whole_log(here: Here, who: ReadsAudit, subject: UUID | None = None) -> StreamingResponse:
    """The log as of now, as JSON lines; with `subject`, of the other rows only what the tree needs."""
    return StreamingResponse(_lines(here, who.tenant, subject), media_type="application/x-ndjson")


async def _lines(here: Context, tenant: str, subject: UUID | None) -> AsyncIterator[str]:
    at = await here.read(log.moment)
    async with here.engine.connect() as conn:
        await conn.execution_options(isolation_level="REPEATABLE READ")
        lines = await conn.run_sync(lambda c: log.lines(c, at, tenant, subject))
        while chunk := await conn.run_sync(lambda _: list(islice(lines, CHUNK_LINES))):
            yield "".join(chunk)


@router.get("/checkpoints")
async def checkpoints(here: Here, who: ReadsAudit, after: Annotated[int, Query(ge=0, le=2**53)] = 0) -> CheckpointsView:
    """The notary's signed checkpoints over more than `after` rows, the smallest first, at most 1000."""
    return CheckpointsView(items=await here.read(lambda conn: sealing.notes(conn, after, CHECKPOINTS)))


@router.post("/expirations", status_code=201)
async def expire(body: Expiry, request: Request, here: Here, who: Administers) -> ExpiredView:
    """Take out the rows of jobs that ended, and were last changed, before a moment; what proves the others stays."""
    latest = datetime.now(UTC) - KEPT_AT_LEAST
    if body.before > latest:
        raise InvalidInput(
            f"{body.before.isoformat()} is too late: rows younger than {KEPT_AT_LEAST.days} days stay",
            field="before",
            accepted=f"a moment before {(latest - timedelta(minutes=1)).isoformat(timespec='minutes')}",
        )
    raw = await request.body()

    def work(conn: Any) -> dict[str, Any]:
        def take_out(inner: Any) -> dict[str, Any]:
            return {"rows": sealing.expire(inner, who.tenant, body.before, who.actor)}

        return once(conn, request, who.tenant, raw, take_out)

    return ExpiredView.model_validate(await here.write(work))


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
