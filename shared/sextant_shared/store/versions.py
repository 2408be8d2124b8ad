"""Registered dataset and model versions: inserting one with its job's commit, and finding one by name or id."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from sqlalchemy import Connection, Row, func, insert, select, text

from sextant_shared.artefacts import File
from sextant_shared.errors import NotFound
from sextant_shared.ids import new_id
from sextant_shared.store import tables as t

VersionType = Literal["dataset", "model"]
TABLES = {"dataset": t.datasets, "model": t.models}


def register(
    conn: Connection,
    kind: VersionType,
    *,
    tenant: str,
    name: str,
    digest: str,
    job_id: UUID,
    fence: int,
    files: list[File],
    meta: dict[str, Any],
) -> dict[str, Any]:
    """Insert the next version of `name`; the reference to it is what the job's outputs hold."""
    table = TABLES[kind]
    # Two jobs that register the same name take turns, so that the versions have no gap and no clash.
    conn.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))"), {"key": f"{kind}:{tenant}:{name}"})
    where = (table.c.tenant == tenant, table.c.name == name)
    version = conn.execute(select(func.coalesce(func.max(table.c.version), 0) + 1).where(*where)).scalar_one()
    row = {"id": new_id(), "tenant": tenant, "name": name, "version": version, "digest": digest}
    plain = [file.plain() for file in files]
    conn.execute(insert(table).values(**row, job_id=job_id, fence=fence, files=plain, meta=meta))
    return {"type": kind, "id": str(row["id"]), "name": name, "version": version, "digest": digest}


def find(conn: Connection, kind: VersionType, tenant: str, reference: str) -> Row[Any]:
    """The version that `name` or `name@version` means. Raises NotFound naming what there is."""
    table = TABLES[kind]
    name, _, version = reference.partition("@")
    query = select(table).where(table.c.tenant == tenant, table.c.name == name).order_by(table.c.version.desc())
    if version:
        query = query.where(table.c.version == int(version))
    row = conn.execute(query.limit(1)).one_or_none()
    if row is None:
        known = conn.execute(select(table.c.name).where(table.c.tenant == tenant).distinct().limit(20)).scalars()
        raise NotFound(f"no {kind} {reference!r}; there are: {', '.join(sorted(known)) or 'none yet'}")
    return row


def by_id(conn: Connection, kind: VersionType, version_id: UUID) -> Row[Any]:
    """The version with this id. Raises NotFound."""
    table = TABLES[kind]
    row = conn.execute(select(table).where(table.c.id == version_id)).one_or_none()
    if row is None:
        raise NotFound(f"no {kind} {version_id}")
    return row


def files_of(row: Row[Any]) -> list[File]:
    """The files of a version's row."""
    return [File(**file) for file in row.files]


def prefix_of(job_id: UUID | str, fence: int) -> str:
    """Where the artefacts of an attempt lie in the store."""
    return f"{job_id}/{fence}"
