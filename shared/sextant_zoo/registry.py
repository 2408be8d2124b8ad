"""Names of architectures, and everything about them that needs no torch: settings, bounds, search space, tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

if TYPE_CHECKING:
    from torch import nn

    from sextant_zoo.building import Builder


class Config(BaseModel):
    """Settings of an architecture: strict, bounded, no unknown field."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class SmallCnnConfig(Config):
    """Settings of `small-cnn`."""

    channels: int = Field(32, ge=4, le=512, description="of the first convolution; doubled at each depth")
    depth: int = Field(2, ge=1, le=5, description="convolution blocks, each halving the image")
    hidden: int = Field(128, ge=8, le=4096, description="width of the layer before the output")
    dropout: float = Field(0.2, ge=0.0, le=0.9)


class MlpConfig(Config):
    """Settings of `mlp`."""

    hidden: int = Field(128, ge=4, le=8192)
    depth: int = Field(2, ge=1, le=16)
    dropout: float = Field(0.1, ge=0.0, le=0.9)


@dataclass(frozen=True, slots=True)
class Architecture:
    """An entry of the zoo. `space` is in the form of a tune spec: by TrainConfig field or model.SETTING."""

    name: str
    summary: str
    tasks: tuple[str, ...]
    config: type[Config]
    module: str
    space: Mapping[str, Mapping[str, Any]]


LEARNING_RATE = {"low": 5e-4, "high": 1e-2, "log": True}
ARCHITECTURES = {
    entry.name: entry
    for entry in (
        Architecture(
            "small-cnn",
            "Convolution blocks with batch normalisation, for images from 8x8 to 64x64",
            ("image-classification",),
            SmallCnnConfig,
            "sextant_zoo.small_cnn",
            {
                "learning_rate": LEARNING_RATE,
                "model.channels": {"type": "int", "low": 16, "high": 64, "log": True},
                "model.dropout": {"low": 0.0, "high": 0.5},
            },
        ),
        Architecture(
            "mlp",
            "Fully connected layers, for tables",
            ("tabular", "image-classification"),
            MlpConfig,
            "sextant_zoo.mlp",
            {
                "learning_rate": LEARNING_RATE,
                "model.hidden": {"type": "int", "low": 32, "high": 512, "log": True},
                "model.dropout": {"low": 0.0, "high": 0.5},
            },
        ),
    )
}


class UnknownModelError(ValueError):
    """There is no such architecture, or it has no such setting; `field` says where the fault is."""

    def __init__(self, message: str, field: str) -> None:
        self.field = field
        super().__init__(message)


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
    entry = describe(name)
    try:
        return entry.config.model_validate(dict(config))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        known = ", ".join(entry.config.model_fields)
        message = f"{field}: {first['msg']} (given {first.get('input')!r}); {name} has the settings: {known}"
        raise UnknownModelError(message, f"model.config.{field}") from None


def build(name: str, config: Mapping[str, Any], input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A module from (batch, *input_shape) float32 to (batch, classes) logits, freshly initialised."""
    settings = check(name, config)
    builder: Builder = import_module(describe(name).module).build
    return builder(settings, input_shape, classes)
