"""How one job names what another made: a step of the same pipeline, or a registered version."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Tag

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


def _form(value: object) -> str:
    """Which form of an input was meant, so that an error speaks of that one alone."""
    if isinstance(value, StepRef) or (isinstance(value, dict) and "step" in value):
        return "Step"
    return "Name" if isinstance(value, str) else "Version" if isinstance(value, dict | DatasetRef | ModelRef) else ""


def _expected(what: str) -> Discriminator:
    return Discriminator(_form, custom_error_type="input_form", custom_error_message=f"Expected {what}")


Step = Annotated[StepRef, Tag("Step")]
DataInput = Annotated[Step | Annotated[DatasetRef, Tag("Version")], _expected("{step: NAME} or {dataset: NAME}")]
ModelInput = Annotated[Step | Annotated[ModelRef, Tag("Version")], _expected("{step: NAME} or {model: NAME}")]
EndpointInput = Annotated[Step | Annotated[Name, Tag("Name")], _expected("{step: NAME} or an endpoint's name")]
