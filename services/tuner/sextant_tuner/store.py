"""What the tuner reads: searches that are open, and the history of one."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, select

from sextant_shared.lifecycle.states import State
from sextant_shared.store import tables as t
from sextant_tuner.domain.trials import Trial


def open_searches(conn: Connection) -> list[UUID]:
    """Tune jobs that have not ended."""
    query = select(t.jobs.c.id).where(t.jobs.c.kind == "tune", t.jobs.c.finished_at.is_(None))
    return list(conn.execute(query.order_by(t.jobs.c.id)).scalars())


def history(conn: Connection, job_id: UUID, metric: str) -> list[Trial]:
    """The trials of a search, in their order."""
    columns = (t.jobs.c.id, t.jobs.c.step, t.jobs.c.state, t.jobs.c.inputs, t.manifests.c.outputs)
    query = select(*columns).outerjoin(t.manifests, t.manifests.c.job_id == t.jobs.c.id)
    rows = conn.execute(query.where(t.jobs.c.parent_id == job_id).order_by(t.jobs.c.id)).all()
    trials = []
    for row in rows:
        metrics = (row.outputs or {}).get("metrics", {})
        value = metrics.get(metric)
        number = int(row.step.removeprefix("trial-"))
        trials.append(Trial(number, row.id, State(row.state), row.inputs["point"], value))
    return sorted(trials, key=lambda trial: trial.number)
