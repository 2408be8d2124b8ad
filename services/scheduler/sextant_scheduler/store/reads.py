"""What the API reads."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, RowMapping, func, select, text
from sqlalchemy.sql import Select

from sextant_shared.contracts.views import AuditView, EndpointView, JobView, KeyView, NodeView, UploadView, VersionView
from sextant_shared.errors import NotFound
from sextant_shared.lifecycle.states import State
from sextant_shared.store import tables as t

INPUTS = t.jobs.c.inputs.op("#-", return_type=t.jobs.c.inputs.type)(text("'{piece,order}'")).label("inputs")
"""Without what a worker is told of a piece, which may name thousands of files."""
JOB_VIEW = (
    t.jobs.c.id, t.jobs.c.kind, t.jobs.c.name, t.jobs.c.state, t.jobs.c.root_id, t.jobs.c.parent_id, t.jobs.c.step,
    t.jobs.c.priority, t.jobs.c.spec, INPUTS, t.manifests.c.outputs, t.jobs.c.progress, t.jobs.c.error,
    t.jobs.c.attempt, t.jobs.c.errors, t.jobs.c.worker_deaths, t.jobs.c.fence, t.jobs.c.created_by,
    t.jobs.c.created_at, t.jobs.c.started_at, t.jobs.c.finished_at,
)  # fmt: skip


def _jobs() -> Select[Any]:
    return select(*JOB_VIEW).outerjoin(t.manifests, t.manifests.c.job_id == t.jobs.c.id)


def job(conn: Connection, tenant: str, job_id: UUID) -> JobView:
    """One job with the jobs that it made. Raises NotFound."""
    row = conn.execute(_jobs().where(t.jobs.c.id == job_id, t.jobs.c.tenant == tenant)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no job {job_id}")
    steps = None
    if row["kind"] in ("pipeline", "tune", "prepare"):
        query = _jobs().where(t.jobs.c.parent_id == job_id).order_by(t.jobs.c.id)
        steps = [JobView.model_validate(dict(child)) for child in conn.execute(query).mappings()]
        if row["kind"] == "prepare" and not steps:
            steps = None  # small, or a piece itself
    return JobView.model_validate({**row, "steps": steps})


def job_page(
    conn: Connection, tenant: str, where: dict[str, Any], *, top: bool, limit: int, before: UUID | None
) -> list[JobView]:
    """Jobs, the newest first, that agree with `where`."""
    conditions: list[ColumnElement[bool]] = [t.jobs.c.tenant == tenant]
    conditions += [t.jobs.c[column] == value for column, value in where.items() if value is not None]
    if top:
        conditions.append(t.jobs.c.parent_id.is_(None))
    if before is not None:
        conditions.append(t.jobs.c.id < before)
    rows = conn.execute(_jobs().where(*conditions).order_by(t.jobs.c.id.desc()).limit(limit)).mappings()
    return [JobView.model_validate(dict(row)) for row in rows]


def family(conn: Connection, tenant: str, job_id: UUID) -> list[JobView]:
    """A job and all below it, the oldest first. Raises NotFound."""
    tree = text(
        "WITH RECURSIVE tree AS (SELECT id FROM jobs WHERE id = :id AND tenant = :tenant"
        " UNION ALL SELECT j.id FROM jobs j JOIN tree ON j.parent_id = tree.id) SELECT id FROM tree"
    )
    ids = list(conn.execute(tree, {"id": job_id, "tenant": tenant}).scalars())
    if not ids:
        raise NotFound(f"no job {job_id}")
    rows = conn.execute(_jobs().where(t.jobs.c.id.in_(ids)).order_by(t.jobs.c.id)).mappings()
    return [JobView.model_validate(dict(row)) for row in rows]


def audit_page(
    conn: Connection, tenant: str, *, subject: UUID | None, after: tuple[UUID, int] | None, limit: int
) -> list[AuditView]:
    """Rows of the audit log by subject and sequence."""
    conditions: list[ColumnElement[bool]] = [t.audit.c.tenant == tenant]
    if subject is not None:
        conditions.append(t.audit.c.subject_id == subject)
    if after is not None:
        place = func.row(t.audit.c.subject_id, t.audit.c.seq)
        conditions.append(place > func.row(*after))
    query = select(t.audit).where(*conditions).order_by(t.audit.c.subject_id, t.audit.c.seq).limit(limit)
    return [audit_view(row) for row in conn.execute(query).mappings()]


def audit_view(row: RowMapping) -> AuditView:
    """A row of the audit log as it is shown."""
    return AuditView.model_validate({**row, "body": json.loads(row["body"]), "hash": row["hash"].hex()})


def version_page(
    conn: Connection, table: Any, tenant: str, *, name: str | None, limit: int, before: UUID | None
) -> list[VersionView]:
    """Dataset or model versions, the newest first."""
    conditions = [table.c.tenant == tenant]
    if name is not None:
        conditions.append(table.c.name == name)
    if before is not None:
        conditions.append(table.c.id < before)
    query = select(table).where(*conditions).order_by(table.c.id.desc()).limit(limit)
    return [VersionView.model_validate(dict(row)) for row in conn.execute(query).mappings()]


def endpoints(conn: Connection, tenant: str, url: str, name: str | None = None) -> list[EndpointView]:
    """The endpoints, by name. Raises NotFound for a name that is none."""
    query = (
        select(t.endpoints, t.models.c.name.label("model_name"), t.models.c.version, t.models.c.digest)
        .outerjoin(t.models, t.models.c.id == t.endpoints.c.model_id)
        .where(t.endpoints.c.tenant == tenant, t.endpoints.c.state != "DELETED")
        .order_by(t.endpoints.c.name)
    )
    if name is not None:
        query = query.where(t.endpoints.c.name == name)
    rows = conn.execute(query).mappings().all()
    if name is not None and not rows:
        raise NotFound(f"no endpoint {name!r}")
    return [_endpoint(row, url) for row in rows]


def _endpoint(row: RowMapping, url: str) -> EndpointView:
    model = None
    if row["model_id"] is not None:
        model = {key: row[key] for key in ("version", "digest")}
        model = {"id": str(row["model_id"]), "name": row["model_name"], **model}
    where = f"{url}/v2/models/{row['name']}/infer"
    return EndpointView.model_validate({**row, "model": model, "url": where})


def nodes(conn: Connection) -> list[NodeView]:
    """The trainer nodes and what of them is taken."""
    used = func.coalesce(func.sum(t.reservations.c.slots), 0).label("used")
    query = (
        select(t.nodes, used)
        .outerjoin(t.reservations, t.reservations.c.node == t.nodes.c.name)
        .group_by(t.nodes.c.name)
        .order_by(t.nodes.c.name)
    )
    return [NodeView.model_validate(dict(row)) for row in conn.execute(query).mappings()]


def keys(conn: Connection, tenant: str) -> list[KeyView]:
    """The API keys, without their secrets."""
    query = select(t.api_keys).where(t.api_keys.c.tenant == tenant).order_by(t.api_keys.c.id)
    return [KeyView.model_validate(dict(row)) for row in conn.execute(query).mappings()]


def upload_view(row: Any) -> UploadView:
    """An upload as it is shown."""
    return UploadView.model_validate({**row, "uri": f"upload://{row['id']}"})


LINEAGE = text(
    """
    WITH RECURSIVE made AS (
        SELECT j.id, j.kind, j.name, j.inputs FROM jobs j WHERE j.id = :id AND j.tenant = :tenant
        UNION
        SELECT p.id, p.kind, p.name, p.inputs
        FROM made m
        CROSS JOIN LATERAL jsonb_each(CASE WHEN jsonb_typeof(m.inputs) = 'object' THEN m.inputs ELSE '{}' END) i
        LEFT JOIN datasets d ON i.value->>'type' = 'dataset' AND d.id = (i.value->>'id')::uuid
        LEFT JOIN models o ON i.value->>'type' = 'model' AND o.id = (i.value->>'id')::uuid
        LEFT JOIN endpoints e ON i.key = 'endpoint' AND jsonb_typeof(i.value) = 'string'
             AND e.name = i.value#>>'{}' AND e.tenant = :tenant
        JOIN jobs p ON p.id = coalesce(d.job_id, o.job_id, e.job_id,
             CASE WHEN i.value->>'type' = 'config' THEN (i.value->>'job_id')::uuid END)
    )
    SELECT 'job' AS type, id, kind || ' ' || name AS name, NULL AS digest, inputs, NULL::uuid AS job_id FROM made
    UNION ALL SELECT 'dataset', d.id, d.name || '@' || d.version, d.digest, NULL, d.job_id
              FROM datasets d JOIN made ON made.id = d.job_id
    UNION ALL SELECT 'model', o.id, o.name || '@' || o.version, o.digest, NULL, o.job_id
              FROM models o JOIN made ON made.id = o.job_id
    UNION ALL SELECT 'endpoint', e.id, e.name, NULL, NULL, e.job_id
              FROM endpoints e JOIN made ON made.id = e.job_id
    """
)


def lineage(conn: Connection, tenant: str, job_id: UUID) -> list[Row[Any]]:
    """A job, all jobs before it, and what they made: one query from endpoint to source. Raises NotFound."""
    rows = list(conn.execute(LINEAGE, {"id": job_id, "tenant": tenant}))
    if not rows:
        raise NotFound(f"no job {job_id}")
    return rows


SITUATION_AHEAD = text(
    """
    SELECT o.id FROM jobs o JOIN jobs j ON j.id = :id
    WHERE o.kind = j.kind AND o.state = 'QUEUED' AND o.id <> j.id
      AND (o.attempt > 0, o.priority, j.id) > (j.attempt > 0, j.priority, o.id)
    ORDER BY o.attempt > 0 DESC, o.priority DESC, o.id LIMIT 20
    """
)


def ahead_of(conn: Connection, job_id: UUID) -> list[UUID]:
    """Queued jobs of the same kind that go first: they have begun, or a higher priority, or the same and older."""
    return list(conn.execute(SITUATION_AHEAD, {"id": job_id}).scalars())


def owned(conn: Connection, tenant: str, ids: Collection[UUID]) -> set[UUID]:
    """Those of the jobs that are the tenant's."""
    query = select(t.jobs.c.id).where(t.jobs.c.id.in_(ids), t.jobs.c.tenant == tenant)
    return set(conn.execute(query).scalars()) if ids else set()


def running_of_kind(conn: Connection, kind: str) -> list[UUID]:
    """Jobs of a kind that hold a worker or slots."""
    states = [State.RUNNING, State.RESERVED, State.PAUSING, State.CANCELLING]
    query = select(t.jobs.c.id).where(t.jobs.c.kind == kind, t.jobs.c.state.in_(states)).limit(20)
    return list(conn.execute(query).scalars())
