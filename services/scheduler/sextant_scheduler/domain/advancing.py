"""Advance a pipeline: read its steps, decide, and do what was decided, in the transaction that locks it."""

from __future__ import annotations

from typing import Any, Protocol
from uuid import UUID

from sextant_scheduler.domain.pipeline import Begin, Child, CreateStep, Finish, Tell, decide
from sextant_scheduler.domain.rounds import Rows
from sextant_shared.contracts.specs import PipelineSpec
from sextant_shared.lifecycle.machine import Event, Job, Refused
from sextant_shared.lifecycle.states import State

ROUNDS = 3


class Steps(Rows, Protocol):
    """A pipeline and its steps in one transaction."""

    async def lock(self, job_id: UUID) -> Job | None:
        """The pipeline's row, locked; None where there is none."""

    async def children(self, parent_id: UUID) -> list[Child]:
        """The jobs of its steps as they are now."""

    async def create(self, parent: Job, spec: PipelineSpec, step: CreateStep) -> None:
        """Insert the job of a step, once: its idempotency key is `<pipeline>/<step>`."""

    async def write_manifest(self, job_id: UUID, fence: int, outputs: dict[str, Any]) -> None:
        """Make the pipeline's outputs visible."""


async def advance(transaction: Steps, pipeline_id: UUID) -> bool:
    """Do what the pipeline's state calls for; whether anything was done. Safe to call at any time, by any number."""
    job = await transaction.lock(pipeline_id)
    acted = False
    # What one round does may at once allow more: the start creates steps, a step given up may end the pipeline.
    for _ in range(ROUNDS):
        if job is None or job.kind != "pipeline" or job.state.is_terminal or not await _round(transaction, job):
            break
        acted = True
        job = await transaction.lock(pipeline_id)
    return acted


async def _round(transaction: Steps, job: Job) -> bool:
    spec = PipelineSpec.model_validate(job.spec, strict=False)
    children = await transaction.children(job.id)
    acted = False
    for action in decide(spec, job.state, children, job.inputs or {}):
        match action:
            case CreateStep():
                await transaction.create(job, spec, action)
                acted = True
            case Tell():
                acted |= await _tell(transaction, action.job_id, action.event)
            case Begin():
                acted |= await _tell(transaction, job.id, action.event)
            case Finish():
                acted |= await _finish(transaction, job, action)
    return acted


async def _finish(transaction: Steps, job: Job, action: Finish) -> bool:
    done = await _tell(transaction, job.id, action.event)
    if done and action.event.state is State.SUCCEEDED and job.state is State.RUNNING:
        await transaction.write_manifest(job.id, job.fence, action.outputs)
    return done


async def _tell(transaction: Steps, job_id: UUID, event: Event) -> bool:
    _, decision = await transaction.apply(job_id, event)
    return not isinstance(decision, Refused)
