"""The tasks that are trained, one a file: batches, loss, figures, and which epoch is the better one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.tasks.anomalies import Anomalies
from sextant_trainer.training.tasks.classification import Classification
from sextant_trainer.training.tasks.detection import Detection
from sextant_trainer.training.tasks.forecasting import Forecasting
from sextant_trainer.training.tasks.tables import Tables
from sextant_trainer.training.tasks.task import Task
from sextant_trainer.training.tasks.texts import Texts
from sextant_zoo.pretrained import Weights

__all__ = ["Task", "name_of", "open_task"]

TASKS = (
    "image-classification",
    "defect-detection",
    "tabular",
    "forecasting",
    "anomaly-detection",
    "text-classification",
)


def name_of(directory: Path) -> str:
    """The task of the dataset version in `directory`. Raises InvalidInput for one that is not trained."""
    name = str(json.loads((directory / "dataset.json").read_text())["task"])
    if name not in TASKS:
        raise InvalidInput(f"no trainer for task {name!r} yet", field="data", accepted=", ".join(TASKS))
    return name


def open_task(
    directory: Path,
    config: TrainConfig,
    settings: dict[str, Any],
    weights: Weights | None = None,
    *,
    fixed: bool = False,
) -> Task:
    """The dataset version in `directory` as what its task makes of it, for an architecture with these settings.

    `weights` may bring a tokenizer, or the scale of pixels; with `fixed` all batches have one shape. Raises
    InvalidInput as `name_of`, and where the settings do not fit the data.
    """
    match name_of(directory):
        case "defect-detection":
            return Detection(directory, config, weights)
        case "forecasting":
            return Forecasting(directory)
        case "anomaly-detection":
            return Anomalies(directory, config.level)
        case "text-classification":
            return Texts(directory, config, settings, weights, fixed=fixed)
        case "tabular":
            return Tables(directory, config)
    return Classification(directory, config, weights)
