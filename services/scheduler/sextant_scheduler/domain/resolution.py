"""From the references in a spec to the inputs of a job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sextant_shared.contracts.references import DatasetRef, ModelRef, StepRef
from sextant_shared.contracts.specs import JobSpec
from sextant_shared.errors import InvalidInput

DEFAULT_OUTPUT = {"data": "dataset", "model": "model", "teacher": "model", "config": "best", "endpoint": "endpoint"}
"""The output of a step that a field takes when the spec names none."""

Outputs = Mapping[str, Mapping[str, Any]]


def inputs_from_steps(spec: JobSpec, outputs: Outputs) -> dict[str, Any]:
    """The values of the fields that refer to other steps. Raises InvalidInput where a step made no such output."""
    return {field: _output(field, ref, outputs) for field, ref in spec.references().items()}


def _output(field: str, ref: StepRef, outputs: Outputs) -> Any:
    name = ref.output or DEFAULT_OUTPUT.get(field, field)
    made = outputs.get(ref.step, {})
    if name not in made:
        raise InvalidInput(
            f"step {ref.step!r} made no output {name!r}; it made {sorted(made)}",
            field=field,
            accepted=str(sorted(made)),
        )
    return made[name]


def named_references(spec: JobSpec) -> dict[str, DatasetRef | ModelRef]:
    """The fields that refer to registered versions by name, to be looked up when the job is accepted."""
    values = {name: getattr(spec, name) for name in type(spec).model_fields}
    return {name: value for name, value in values.items() if isinstance(value, DatasetRef | ModelRef)}


def step_references_outside_pipeline(spec: JobSpec) -> str | None:
    """The first field of a spec that stands alone and yet refers to a step, if there is one."""
    return next(iter(spec.references()), None)
