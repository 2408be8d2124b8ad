"""The job of a pipeline's step."""

from __future__ import annotations

from typing import Any

from sextant_scheduler.domain.pipeline import CreateStep
from sextant_scheduler.handlers.submission import new_job
from sextant_shared.contracts.specs import PipelineSpec
from sextant_shared.lifecycle.jobs import NewJob, own_key
from sextant_shared.lifecycle.machine import Job

ACTOR = "scheduler"


def step_job(parent: Job, spec: PipelineSpec, action: CreateStep) -> NewJob:
    """The row to insert; its key is the pipeline's and the step's, so that there is one whoever inserts."""
    step: Any = spec.steps[action.step]
    return new_job(
        step,
        tenant=parent.tenant,
        actor=ACTOR,
        key=own_key(parent.id, action.step),
        parent=parent,
        step=action.step,
        inputs=action.inputs,
    )
