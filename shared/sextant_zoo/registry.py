"""Names of architectures, and everything about them that needs no torch: settings, bounds, search space, tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

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


class LayersConfig(Config):
    """Settings that all transformers share."""

    hidden: int = Field(256, ge=8, le=32768)
    layers: int = Field(4, ge=1, le=512)
    heads: int = Field(4, ge=1, le=512)
    inner: int | None = Field(None, ge=8, le=131072, description="width of the feed-forward layers; 4 * hidden if null")

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.hidden % (2 * self.heads):
            raise ValueError(f"hidden ({self.hidden}) must be an even number for each of {self.heads} heads")
        return self


class DecoderConfig(LayersConfig):
    """Settings of `decoder`. `inner` is 8/3 * hidden, rounded up to 64, by default where the style is llama."""

    style: Literal["llama", "gpt"] = "llama"
    key_heads: int | None = Field(None, ge=1, le=512, description="heads of keys and values; as many as heads if null")
    vocabulary: int = Field(256, ge=2, le=1048576)
    sequence: int = Field(256, ge=2, le=1048576, description="longest input")

    @model_validator(mode="after")
    def _queries_share_keys(self) -> Self:
        if self.heads % (self.key_heads or 1):
            raise ValueError(f"heads ({self.heads}) must be a multiple of key_heads ({self.key_heads})")
        return self


class EncoderConfig(LayersConfig):
    """Settings of `encoder`."""

    vocabulary: int = Field(30522, ge=2, le=1048576)
    sequence: int = Field(512, ge=2, le=1048576, description="longest input")


class VitConfig(LayersConfig):
    """Settings of `vit`."""

    patch: int = Field(4, ge=1, le=64, description="side of a patch, in pixels")


class TimeSeriesConfig(LayersConfig):
    """Settings of `time-series`."""

    patch: int = Field(16, ge=1, le=512, description="steps a patch")
    horizon: int = Field(24, ge=1, le=4096, description="steps to forecast")


class ResnetConfig(Config):
    """Settings of `resnet50`."""

    width: int = Field(64, ge=4, le=1024, description="of the first group; doubled at each")
    depths: list[int] = Field([3, 4, 6, 3], min_length=1, max_length=5, description="bottlenecks a group")
    stem: Literal["auto", "large", "small"] = "auto"

    @model_validator(mode="after")
    def _depths_are_bounded(self) -> Self:
        if not all(1 <= depth <= 128 for depth in self.depths):
            raise ValueError("depths must be from 1 to 128 each")
        return self


class Resnet152Config(ResnetConfig):
    """Settings of `resnet152`."""

    depths: list[int] = Field([3, 8, 36, 3], min_length=1, max_length=5, description="bottlenecks a group")


class UnetConfig(Config):
    """Settings of `unet`."""

    channels: int = Field(32, ge=4, le=1024, description="of the first level; doubled at each")
    depth: int = Field(3, ge=1, le=6, description="times that the image is halved")
    groups: int = Field(8, ge=1, le=64, description="groups of channels that are normalised together")

    @model_validator(mode="after")
    def _groups_share_the_channels(self) -> Self:
        if self.channels % self.groups:
            raise ValueError(f"channels ({self.channels}) must be a multiple of groups ({self.groups})")
        return self


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
LOW_LEARNING_RATE = {"low": 1e-4, "high": 3e-3, "log": True}
LAYERS: Mapping[str, Mapping[str, Any]] = {
    "learning_rate": LOW_LEARNING_RATE,
    "model.layers": {"type": "int", "low": 2, "high": 8},
}
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
        Architecture(
            "resnet50",
            "Residual network of 50 layers, for images",
            ("image-classification",),
            ResnetConfig,
            "sextant_zoo.resnet",
            {"learning_rate": LEARNING_RATE, "model.width": {"type": "int", "low": 16, "high": 64, "log": True}},
        ),
        Architecture(
            "resnet152",
            "Residual network of 152 layers, for images",
            ("image-classification",),
            Resnet152Config,
            "sextant_zoo.resnet",
            {"learning_rate": LEARNING_RATE, "model.width": {"type": "int", "low": 16, "high": 64, "log": True}},
        ),
        Architecture(
            "vit",
            "Vision transformer, for images",
            ("image-classification",),
            VitConfig,
            "sextant_zoo.vit",
            LAYERS,
        ),
        Architecture(
            "decoder",
            "Causal language model, Llama-like or GPT-like",
            ("language-modelling",),
            DecoderConfig,
            "sextant_zoo.decoder",
            LAYERS,
        ),
        Architecture(
            "encoder",
            "BERT-like encoder with a classifier, for text",
            ("text-classification",),
            EncoderConfig,
            "sextant_zoo.encoder",
            LAYERS,
        ),
        Architecture(
            "unet",
            "U-Net with skips, for the segmentation of images",
            ("image-segmentation",),
            UnetConfig,
            "sextant_zoo.unet",
            {"learning_rate": LOW_LEARNING_RATE, "model.depth": {"type": "int", "low": 2, "high": 4}},
        ),
        Architecture(
            "time-series",
            "Patch transformer that forecasts each channel",
            ("forecasting",),
            TimeSeriesConfig,
            "sextant_zoo.time_series",
            LAYERS,
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
    """A freshly initialised module for inputs (batch, *input_shape).

    It gives (batch, classes) logits for the tasks of classification; the architecture's module says what it gives else.
    """
    settings = check(name, config)
    builder: Builder = import_module(describe(name).module).build
    return builder(settings, input_shape, classes)
