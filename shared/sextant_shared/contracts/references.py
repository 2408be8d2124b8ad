"""How one job names what another made: a step of the same pipeline, or a registered version."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sextant_shared.contracts.base import Accepted, Name, VersionedName


class StepRef(Accepted):
    """An output of another step of the same pipeline; without `output`, the one that the field's type calls for."""

    step: Name
    output: Name | None = None


class DatasetRef(Accepted):
    """A registered dataset version."""

    dataset: VersionedName


class ModelRef(Accepted):
    """A registered model version."""

    model: VersionedName


DataInput = StepRef | DatasetRef
ModelInput = StepRef | ModelRef
EndpointInput = StepRef | Name
Positive = Annotated[int, Field(ge=1)]
