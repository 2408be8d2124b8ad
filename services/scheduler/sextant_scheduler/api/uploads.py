"""Routes of uploads: in pieces, resumable, checked against the hash that was announced."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from uuid import UUID

import anyio.to_thread
from fastapi import APIRouter, Header, Request
from pydantic import Field
from sqlalchemy import Connection, RowMapping, func, insert, select, update

from sextant_scheduler.api.context import Context, Guarded, Here, WritesData
from sextant_scheduler.api.idempotency import once
from sextant_scheduler.store import reads
from sextant_shared.artefacts import MAX_PATH, hash_file, safe_path
from sextant_shared.contracts.base import Accepted, Text
from sextant_shared.contracts.views import UploadView
from sextant_shared.errors import Conflict, InvalidInput, NotFound, PayloadTooLarge, QuotaExceeded
from sextant_shared.ids import new_id
from sextant_shared.security import Identity
from sextant_shared.store import audit
from sextant_shared.store import tables as t

router = APIRouter(route_class=Guarded, prefix="/v1/uploads", tags=["uploads"])
MAX_PIECE = 8 * 2**20
MAX_UPLOAD = 2**40
PIECE = {"requestBody": {"required": True, "content": {"application/octet-stream": {}}}}


RELATIVE = r"^(?!/)(?!(\./*)+$)(?!(.*/)?\.\.(/|$))[^\\\x00]+$"
"""Of a path below a root, for those who read the description; `safe_path` decides."""


class NewUpload(Accepted):
    """A file to come: its name, size in bytes, and SHA-256 in hex."""

    path: Text = Field(json_schema_extra={"minLength": 1, "maxLength": MAX_PATH, "pattern": RELATIVE})
    size: int = Field(ge=1, le=MAX_UPLOAD)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


@router.post("", status_code=201)
async def create(body: NewUpload, request: Request, here: Here, who: WritesData) -> UploadView:
    """Announce a file."""
    safe_path(body.path)
    raw, most = await request.body(), here.settings.max_open_uploads

    def announce(conn: Connection) -> UploadView:
        mine = (t.uploads.c.tenant == who.tenant, ~t.uploads.c.completed)
        if conn.execute(select(func.count()).select_from(t.uploads).where(*mine)).scalar_one() >= most:
            raise QuotaExceeded(f"the tenant has {most} uploads that are not complete; complete some of them")
        return _insert(conn, who, body)

    answer = await here.write(
        lambda conn: once(conn, request, who.tenant, raw, lambda c: announce(c).model_dump(mode="json"))
    )
    return UploadView.model_validate(answer)


@router.get("/{upload_id}")
async def get(upload_id: UUID, here: Here, who: WritesData) -> UploadView:
    """How much of the file is there."""
    return reads.upload_view(await here.read(lambda conn: _row(conn, who, upload_id)))


@router.patch("/{upload_id}", openapi_extra=PIECE)
async def append(
    upload_id: UUID, request: Request, here: Here, who: WritesData, upload_offset: int = Header(ge=0)
) -> UploadView:
    """Add a piece of at most 8 MiB at `Upload-Offset`, which must be where the file ends so far."""
    piece = await _piece(request)
    if not piece:
        raise InvalidInput("the piece is empty", field="body", accepted="1 byte or more")
    row = await here.read(lambda conn: _row(conn, who, upload_id))
    if row["completed"]:
        return reads.upload_view(row)
    if row["received"] != upload_offset:
        raise Conflict(f"the file has {row['received']} bytes so far; the piece begins at {upload_offset}")
    if upload_offset + len(piece) > row["size"]:
        raise Conflict(f"the file was announced with {row['size']} bytes; the piece goes beyond them")
    partial = here.settings.work_dir / "uploads" / str(upload_id) / "content"
    await anyio.to_thread.run_sync(_write, partial, upload_offset, piece)
    received = upload_offset + len(piece)
    if received == row["size"]:
        await _complete(here, row, partial)
    done = received == row["size"]
    return reads.upload_view(await here.write(lambda conn: _advance(conn, who, row, received, done)))


async def _piece(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MAX_PIECE:
            raise PayloadTooLarge(f"a piece of an upload is at most {MAX_PIECE} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _complete(here: Context, row: RowMapping, partial: Path) -> None:
    file = await anyio.to_thread.run_sync(hash_file, partial)
    if file.sha256 != row["sha256"]:
        partial.unlink(missing_ok=True)
        await here.write(lambda conn: conn.execute(_set(row["id"], received=0)))
        raise InvalidInput("the bytes do not have the announced hash; the upload begins anew", field="sha256")
    target = partial.parent / "whole" / str(safe_path(row["path"]))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial.replace(target)
    await anyio.to_thread.run_sync(here.artefacts.publish, partial.parent / "whole", f"uploads/{row['id']}")


def _write(path: Path, offset: int, piece: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        written = 0
        while written < len(piece):
            # A disk that is nearly full takes a part, and refuses the next.
            written += os.pwrite(descriptor, piece[written:], offset + written)
        os.ftruncate(descriptor, offset + len(piece))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set(upload_id: UUID, **values: Any) -> Any:
    return update(t.uploads).where(t.uploads.c.id == upload_id).values(**values)


def _row(conn: Connection, who: Identity, upload_id: UUID) -> RowMapping:
    query = select(t.uploads).where(t.uploads.c.id == upload_id, t.uploads.c.tenant == who.tenant)
    row = conn.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no upload {upload_id}")
    return row


def _insert(conn: Connection, who: Identity, body: NewUpload) -> UploadView:
    values = {"id": new_id(), "tenant": who.tenant, "path": body.path, "size": body.size, "sha256": body.sha256}
    row = conn.execute(insert(t.uploads).values(values).returning(t.uploads)).mappings().one()
    detail = {"path": body.path, "size": body.size, "sha256": body.sha256}
    _audit(conn, who, row["id"], "announced", detail)
    return reads.upload_view(row)


def _advance(conn: Connection, who: Identity, row: RowMapping, received: int, completed: bool) -> RowMapping:
    statement = _set(row["id"], received=received, completed=completed).returning(t.uploads)
    after = conn.execute(statement).mappings().one()
    if completed:
        _audit(conn, who, row["id"], "completed", {"sha256": row["sha256"]})
    return after


def _audit(conn: Connection, who: Identity, upload_id: UUID, event: str, detail: dict[str, Any]) -> None:
    audit.append(conn, "upload", upload_id, tenant=who.tenant, actor=who.actor, event=event, detail=detail)
