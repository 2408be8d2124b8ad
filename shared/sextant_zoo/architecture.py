"""An entry of the zoo: everything about an architecture that needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from sextant_zoo.settings import Config

Space = Mapping[str, Mapping[str, Any]]
"""What a search may change, in the form of a tune spec: by TrainConfig field or model.SETTING."""
Way = Literal["data", "pipeline", "tensor", "sequence"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """An entry of the zoo."""

    name: str
    summary: str
    tasks: tuple[str, ...]
    config: type[Config]
    module: str
    """What builds it; importing it does not import `transformers`."""
    space: Space
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Where they differ from those of `config`."""
    splits: tuple[Way, ...] = ("data",)
    """How it can be split over devices."""
    function: str = "build"
    """That of the module which builds it."""
    origin: Literal["sextant", "transformers"] = "sextant"
    exports: tuple[str, ...] = ("onnx",)
    """The formats that it is exported to; empty where the exporter does not take its task."""

    @property
    def modality(self) -> str:
        """What it learns from: image, text, series or table."""
        return MODALITY[self.tasks[0]]

    @property
    def preprocessing(self) -> str:
        """What its inputs are made by, in words."""
        return PREPROCESSING[self.modality]

    def settings(self) -> dict[str, Any]:
        """All its settings with what they are by default."""
        return self.config.model_validate(dict(self.defaults)).model_dump()


MODALITIES = ("image", "text", "series", "table")
MODALITY = {
    "image-classification": "image",
    "defect-detection": "image",
    "image-segmentation": "image",
    "text-classification": "text",
    "language-modelling": "text",
    "forecasting": "series",
    "anomaly-detection": "series",
    "tabular": "table",
}
PREPROCESSING = {
    "image": "each channel less its mean, over its deviation, of the training split",
    "text": "token numbers of a tokenizer, filled up to one length",
    "series": "each column less its mean, over its deviation, of the training split",
    "table": "each column less its mean, over its deviation, of the training split; categories one-hot",
}
