"""Advance a pipeline: read its steps, decide, and commit what was decided in the same transaction."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from sextant_scheduler.domain.pipeline import Begin, Child, CreateStep, Finish, Tell, decide
from sextant_scheduler.handlers.submission import new_job
from sextant_scheduler.store import control
from sextant_shared.contracts.specs import PipelineSpec
from sextant_shared.errors import NotFound
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import Event, Job, Refused
from sextant_shared.lifecycle.states import State

ACTOR = "scheduler"
ROUNDS = 3


def advance(conn: Connection, pipeline_id: UUID, rng: Random) -> bool:
    """Do what the pipeline's state calls for; whether anything was done. Safe to call at any time, by any number."""
    try:
        job, _ = jobs.lock(conn, pipeline_id)
    except NotFound:
        return False
    acted = False
    # What one round does may at once allow more: the start creates steps, a step given up may end the pipeline.
    for _ in range(ROUNDS):
        if job.kind != "pipeline" or job.state.is_terminal or not _round(conn, job, rng):
            break
        acted = True
        job, _ = jobs.lock(conn, pipeline_id)
    return acted


def _round(conn: Connection, job: Job, rng: Random) -> bool:
    spec = PipelineSpec.model_validate(job.spec, strict=False)
    rows = control.children(conn, job.id)
    children = [Child(row.id, row.step, State(row.state), row.outputs or {}) for row in rows]
    acted = False
    for action in decide(spec, job.state, children, job.inputs or {}):
        match action:
            case CreateStep():
                jobs.submit(conn, [_step_job(job, spec, action)])
                acted = True
            case Tell():
                acted |= _tell(conn, action.job_id, action.event, rng)
            case Begin():
                acted |= _tell(conn, job.id, action.event, rng)
            case Finish():
                acted |= _finish(conn, job, action, rng)
    return acted


def _finish(conn: Connection, job: Job, action: Finish, rng: Random) -> bool:
    done = _tell(conn, job.id, action.event, rng)
    if done and action.event.state is State.SUCCEEDED and job.state is State.RUNNING:
        jobs.write_manifest(conn, job.id, job.fence, [], action.outputs)
    return done


def _tell(conn: Connection, job_id: UUID, event: Event, rng: Random) -> bool:
    _, decision = jobs.apply(conn, job_id, event, actor=ACTOR, rng=rng)
    return not isinstance(decision, Refused)


def _step_job(parent: Job, spec: PipelineSpec, action: CreateStep) -> jobs.NewJob:
    step: Any = spec.steps[action.step]
    return new_job(
        step,
        tenant=parent.tenant,
        actor=ACTOR,
        key=f"{parent.id}/{action.step}",
        parent=parent,
        step=action.step,
        inputs=action.inputs,
    )
