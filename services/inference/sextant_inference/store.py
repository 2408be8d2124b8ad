"""All SQL of the inference service: endpoints as they should be, deploy jobs to take, and what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, update
from sqlalchemy.dialects.postgresql import insert

from sextant_shared.ids import new_id
from sextant_shared.lifecycle.machine import Job
from sextant_shared.lifecycle.states import State
from sextant_shared.store import audit
from sextant_shared.store import tables as t


def waiting_deploys(conn: Connection) -> list[UUID]:
    """Deploy jobs that can be claimed, in order."""
    where = (t.jobs.c.kind == "deploy", t.jobs.c.state == State.QUEUED, t.jobs.c.run_after <= func.clock_timestamp())
    query = select(t.jobs.c.id).where(*where).order_by(t.jobs.c.priority.desc(), t.jobs.c.id).limit(16)
    return list(conn.execute(query).scalars())


def desire(conn: Connection, job: Job, model_id: UUID, actor: str) -> int:
    """Make the job's endpoint one that should serve this model; the generation that says so.

    The same job again, after a crash, changes nothing.
    """
    name, settings = job.spec["endpoint"], {k: job.spec[k] for k in ("max_batch_size", "max_wait_ms")}
    fresh = insert(t.endpoints).values(id=new_id(), tenant=job.tenant, name=name, generation=0, state="PENDING")
    conn.execute(fresh.on_conflict_do_nothing(index_elements=["tenant", "name"]))
    where = (t.endpoints.c.tenant == job.tenant, t.endpoints.c.name == name)
    row = conn.execute(select(t.endpoints).where(*where).with_for_update()).one()
    if row.job_id == job.id and row.model_id == model_id:
        return int(row.generation)
    values = {
        "generation": row.generation + 1,
        "model_id": model_id,
        "settings": settings,
        "job_id": job.id,
        "state": "PENDING",
        "error": None,
        "updated_at": func.clock_timestamp(),
    }
    conn.execute(update(t.endpoints).where(*where).values(values))
    audit.append(
        conn,
        "endpoint",
        row.id,
        tenant=job.tenant,
        actor=actor,
        event="desired",
        detail={"name": name, "model_id": str(model_id), "job_id": str(job.id), **settings},
        from_state=row.state,
        to_state="PENDING",
    )
    return int(row.generation) + 1


def all_desired(conn: Connection) -> Sequence[Row[*tuple[Any, ...]]]:
    """Every endpoint with the model that it should serve."""
    model = (t.models.c.version, t.models.c.job_id.label("model_job_id"), t.models.c.fence, t.models.c.files)
    query = select(t.endpoints, *model).outerjoin(t.models, t.models.c.id == t.endpoints.c.model_id)
    return conn.execute(query.where(t.endpoints.c.state != "DELETED")).all()


def observed(conn: Connection, endpoint: Row[*tuple[Any, ...]], state: str, error: str | None, actor: str) -> None:
    """Record what became of a generation; a newer wish stays as it is."""
    where = (t.endpoints.c.id == endpoint.id, t.endpoints.c.generation == endpoint.generation)
    row = conn.execute(select(t.endpoints).where(*where).with_for_update()).one_or_none()
    if row is None or (row.state == state and row.observed_generation == row.generation):
        return
    values = {
        "observed_generation": row.generation,
        "state": state,
        "error": error,
        "updated_at": func.clock_timestamp(),
    }
    conn.execute(update(t.endpoints).where(*where).values(values))
    audit.append(
        conn,
        "endpoint",
        row.id,
        tenant=row.tenant,
        actor=actor,
        event=state.lower(),
        detail={"generation": row.generation, "error": error},
        from_state=row.state,
        to_state=state,
    )
