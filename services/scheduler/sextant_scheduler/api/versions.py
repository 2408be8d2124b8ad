"""Routes of dataset and model versions: what there is, and its files."""

from __future__ import annotations

import re
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Request
from fastapi.responses import StreamingResponse

from sextant_scheduler.api.context import Context, Guarded, Here, ReadsData, ReadsModels
from sextant_scheduler.api.jobs import Cursor, Filter, Limit
from sextant_scheduler.store import reads
from sextant_shared.artefacts import File
from sextant_shared.contracts.views import Page, VersionView
from sextant_shared.errors import InvalidInput, NotFound
from sextant_shared.security import Identity
from sextant_shared.store import tables as t
from sextant_shared.store import versions
from sextant_shared.store.versions import VersionType

router = APIRouter(route_class=Guarded, prefix="/v1", tags=["datasets and models"])
PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}(@[1-9][0-9]{0,8})?"
Reference = Annotated[str, Path(description="NAME or NAME@VERSION", json_schema_extra={"pattern": f"^{PATTERN}$"})]
REFERENCE = re.compile(PATTERN)
RANGE = re.compile(r"bytes=([0-9]{1,18})-")


@router.get("/datasets")
async def list_datasets(
    here: Here, who: ReadsData, name: Filter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[VersionView]:
    """Dataset versions, the newest first."""
    return await _page(here, who, t.datasets, name, limit, cursor)


@router.get("/models")
async def list_models(
    here: Here, who: ReadsModels, name: Filter = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[VersionView]:
    """Model versions, the newest first."""
    return await _page(here, who, t.models, name, limit, cursor)


@router.get("/datasets/{reference}")
async def get_dataset(reference: Reference, here: Here, who: ReadsData) -> VersionView:
    """The newest version of a dataset, or name@version."""
    return await _one(here, who, "dataset", reference)


@router.get("/models/{reference}")
async def get_model(reference: Reference, here: Here, who: ReadsModels) -> VersionView:
    """The newest version of a model, or name@version."""
    return await _one(here, who, "model", reference)


@router.get("/datasets/{reference}/files/{path:path}", response_class=StreamingResponse)
async def get_dataset_file(
    reference: Reference, path: str, request: Request, here: Here, who: ReadsData
) -> StreamingResponse:
    """The bytes of a dataset's file; `Range: bytes=N-` goes on from N."""
    return await _file(here, who, "dataset", reference, path, request)


@router.get("/models/{reference}/files/{path:path}", response_class=StreamingResponse)
async def get_model_file(
    reference: Reference, path: str, request: Request, here: Here, who: ReadsModels
) -> StreamingResponse:
    """The bytes of a model's file; `Range: bytes=N-` goes on from N."""
    return await _file(here, who, "model", reference, path, request)


async def _page(
    here: Context, who: Identity, table: Any, name: str | None, limit: int, cursor: UUID | None
) -> Page[VersionView]:
    items = await here.read(
        lambda conn: reads.version_page(conn, table, who.tenant, name=name, limit=limit, before=cursor)
    )
    return Page(items=items, next=str(items[-1].id) if len(items) == limit else None)


async def _row(here: Context, who: Identity, kind: VersionType, reference: str) -> Any:
    if not REFERENCE.fullmatch(reference):
        raise InvalidInput(f"{reference[:80]!r} is no reference", field="reference", accepted="NAME or NAME@VERSION")
    return await here.read(lambda conn: versions.find(conn, kind, who.tenant, reference))


async def _one(here: Context, who: Identity, kind: VersionType, reference: str) -> VersionView:
    row = await _row(here, who, kind, reference)
    return VersionView.model_validate(row, from_attributes=True)


async def _file(
    here: Context, who: Identity, kind: VersionType, reference: str, path: str, request: Request
) -> StreamingResponse:
    row = await _row(here, who, kind, reference)
    file = next((f for f in versions.files_of(row) if f.path == path), None)
    if file is None:
        raise NotFound(f"{kind} {reference} has no file {path[:80]!r}")
    offset = _offset(request.headers.get("range"), file)
    chunks = here.artefacts.open(versions.prefix_of(row.job_id, row.fence), file.path, offset)
    headers = {"ETag": f'"{file.sha256}"', "Accept-Ranges": "bytes", "Content-Length": str(file.size - offset)}
    if offset:
        headers["Content-Range"] = f"bytes {offset}-{file.size - 1}/{file.size}"
    return StreamingResponse(chunks, 206 if offset else 200, headers, "application/octet-stream")


def _offset(header: str | None, file: File) -> int:
    if header is None:
        return 0
    match = RANGE.fullmatch(header)
    if not match or int(match[1]) >= file.size:
        raise InvalidInput(
            f"{header[:80]!r} is no range of this file", field="Range", accepted=f"bytes=N-, N < {file.size}"
        )
    return int(match[1])
