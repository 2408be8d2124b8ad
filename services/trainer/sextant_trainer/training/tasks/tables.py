"""Classes of rows of tables: numbers and categories as the schema has them, and the area under the ROC curve."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sextant_shared.contracts.specs import TrainConfig
from sextant_trainer.training.study import Worst, words
from sextant_trainer.training.tasks.classification import Classification

BINS, WIDEST = 2048, 16.0
"""Differences of logits are counted in as many bins from -WIDEST to WIDEST: 0.016 wide, where ranks can add up."""


class Tables(Classification):
    """As other classes; with two of them the area under the ROC curve decides, not the accuracy."""

    def __init__(self, directory: Path, config: TrainConfig) -> None:
        super().__init__(directory, config)
        self.binary = len(self.classes) == 2

    def settings(self) -> dict[str, Any]:
        """Which features are numbers and which are categories."""
        return {"columns": self.data.columns}

    def shown(self, row: int) -> Worst:
        """As the values of its columns."""
        part = self.data.splits["val"]
        return Worst(int(part.ids[np.array([row])][0]), 0.0, text=words(self.data.values("val", row)))

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """With the rows of both classes by the difference of their logits, where there are two."""
        found = super().sums(outputs, targets)
        if not self.binary:
            return found
        kept = targets >= 0
        margin = (outputs[kept, 1] - outputs[kept, 0]).clamp(-WIDEST, WIDEST)
        bins = ((margin + WIDEST) * (BINS / (2 * WIDEST))).long().clamp(max=BINS - 1)
        counts = torch.bincount(bins + BINS * targets[kept], minlength=2 * BINS)
        return torch.cat([counts.to(found.dtype), found])

    def metrics(self, means: list[float]) -> dict[str, float]:
        """With `auc`, where there are two classes."""
        if not self.binary:
            return super().metrics(means)
        negative, positive = np.asarray(means[: 2 * BINS]).reshape(2, BINS)
        below = negative.cumsum() - negative / 2
        pairs = negative.sum() * positive.sum()
        return {**super().metrics(means[2 * BINS :]), "auc": float((positive * below).sum() / pairs) if pairs else 0.5}

    def better(self, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        """By the area under the curve, then by loss, where there are two classes."""
        if not self.binary:
            return super().better(new, old)
        return (new["val_auc"], -new["val_loss"]) > (old["val_auc"], -old["val_loss"])
