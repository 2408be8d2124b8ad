"""Architectures by name: what can be asked of them without torch, and how one is built."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from sextant_zoo.architecture import Architecture
from sextant_zoo.catalogue import ARCHITECTURES
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import Config

if TYPE_CHECKING:
    from torch import nn

    from sextant_zoo.building import Builder

__all__ = ["UnknownModelError", "build", "check", "check_task", "describe", "names", "validated"]


def names() -> list[str]:
    """The architectures' names."""
    return sorted(ARCHITECTURES)


def describe(name: str) -> Architecture:
    """The entry with this name. Raises UnknownModelError listing the names."""
    try:
        return ARCHITECTURES[name]
    except KeyError:
        message = f"no architecture {name!r}; there are: {', '.join(names())}"
        raise UnknownModelError(message, "model.zoo") from None


def check(name: str, config: Mapping[str, Any]) -> Config:
    """The full settings of an architecture. Raises UnknownModelError naming the setting and what it accepts."""
    return validated(name, config, "model.config", {})


def validated(name: str, config: Mapping[str, Any], where: str, written: Mapping[str, str]) -> Config:
    """As `check`, for settings that stand at `where`, some of them `written` by another name."""
    entry = describe(name)
    try:
        return entry.config.model_validate({**entry.defaults, **config})
    except ValidationError as error:
        first = error.errors()[0]
        setting, *below = (str(part) for part in first["loc"] or ("",))
        at = ".".join([written.get(setting, setting), *below])
        known = ", ".join(entry.config.model_fields)
        said = first["msg"].removeprefix("Value error, ")
        # What is wrong with several settings together comes without one, and with all of them as what was given.
        fault = f"{at}: {said} (given {first.get('input')!r})" if at else said
        message = f"{fault}; {name} has the settings: {known}"
        raise UnknownModelError(message, f"{where}.{at}".rstrip(".")) from None


def check_task(name: str, task: str) -> None:
    """Raise UnknownModelError, with those that there are, for an architecture that is not for data of the task."""
    fitting = [known for known in names() if task in describe(known).tasks]
    if name not in fitting:
        raise UnknownModelError(f"{name} is not for the task {task} of the data", "model.zoo", ", ".join(fitting))


def build(name: str, config: Mapping[str, Any], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A freshly initialised module for inputs (batch, *input_shape).

    It gives (batch, classes) logits for the tasks of classification, and (batch, classes, columns) for forecasting,
    where `classes` is the horizon; the architecture's module says what it gives else.
    """
    settings, entry = check(name, config), describe(name)
    builder: Builder = getattr(import_module(entry.module), entry.function)
    return builder(settings, input_shape, classes)
