"""Classes of images and of rows of tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.specs import TrainConfig
from sextant_trainer.training.tasks.arrays import load
from sextant_trainer.training.tasks.augmentation import vary
from sextant_trainer.training.tasks.task import Task


class Classes(Task):
    """What is the same for whatever is told apart: cross-entropy; accuracy decides, then the loss."""

    # torch's losses ignore it.
    void = -100
    classes: list[str]

    def __init__(self, config: TrainConfig) -> None:
        self.config = config

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, smoothed as the config says."""
        smoothing = self.config.label_smoothing
        return functional.cross_entropy(outputs, targets, reduction="sum", label_smoothing=smoothing)

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, and rows whose class was found."""
        loss = functional.cross_entropy(outputs, targets, reduction="sum")
        return torch.stack([loss, (outputs.argmax(1) == targets).sum().to(loss.dtype)])

    def metrics(self, means: list[float]) -> dict[str, float]:
        """`loss` and `accuracy`."""
        return {"loss": means[0], "accuracy": means[1]}

    def better(self, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        """By accuracy, then by loss."""
        return (new["val_accuracy"], -new["val_loss"]) > (old["val_accuracy"], -old["val_loss"])


class Classification(Classes):
    """Images and tables, as the dataset stores them."""

    def __init__(self, directory: Path, config: TrainConfig) -> None:
        super().__init__(config)
        self.data = load(directory)
        self.name = self.data.task
        self.shape, self.classes, self.outputs = self.data.shape, self.data.classes, len(self.data.classes)

    def rows(self, split: str) -> int:
        """Samples of a split."""
        return len(self.data.splits[split])

    def batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Normalised float32 inputs (len(rows), *shape) and int64 targets (len(rows),)."""
        return self.data.batch(split, rows)

    def train_batch(self, order: GlobalOrder, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """With images varied as the config says."""
        inputs, targets = super().train_batch(order, step, rows)
        if self.config.augment is not None:
            seed = hash((self.config.seed, step)) % 2**63
            inputs = vary(inputs, self.config.augment, seed, np.arange(rows.start, rows.stop), order.batch)
        return inputs, targets

    def describe(self) -> dict[str, Any]:
        """Form and type of inputs, normalisation, classes."""
        data = self.data
        return {
            "input": {"name": "input", "shape": list(data.shape), "dtype": data.dtype},
            "preprocessing": {"mean": data.mean.ravel().tolist(), "std": data.std.ravel().tolist()},
            "classes": data.classes,
        }
