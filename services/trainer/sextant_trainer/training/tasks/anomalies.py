"""Rows of series that are not as those before let expect: forecasts of normal rows, and a threshold for their errors.

What is learnt is the forecast of windows without a labelled anomaly. A window's score is its squared error, a mean over
the horizon; it is an anomaly where its last row is one. The threshold is the best for F1 on the validation split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_shared.errors import InvalidInput
from sextant_trainer.training.tasks.forecasting import Forecasting, read_series

BINS, LOWEST, HIGHEST = 4096, -8.0, 8.0
"""Scores are counted by their decimal logarithm, in bins 0.9 % wide, which ranks can add up."""


class Anomalies(Forecasting):
    """As forecasting; targets have one column more, which is 1 where a row is an anomaly."""

    name = "anomaly-detection"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._anomaly = read_series(self.directory, self.files_of_series, "anomaly").astype(np.float32)
        first, windows = self.first_row("train"), super().rows("train")
        before = np.concatenate([[0], self._anomaly.cumsum()])
        length = self.input + self.horizon
        starts = first + np.arange(windows)
        self._normal = np.flatnonzero(before[starts + length] == before[starts])
        if not len(self._normal):
            given = f"each of the {windows} training windows of {length} rows holds an anomaly"
            raise InvalidInput(given, field="data", accepted="shorter windows, or more rows without one")

    def rows(self, split: str) -> int:
        """Windows of a split; of training those without an anomaly."""
        return len(self._normal) if split == "train" else super().rows(split)

    def batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """(len(rows), input, columns) and (len(rows), horizon, columns + 1), float32."""
        windows = self._normal[rows] if split == "train" else rows
        inputs, targets = super().batch(split, windows)
        at = self.first_row(split) + windows[:, None] + self.input + np.arange(self.horizon)
        return inputs, torch.cat([targets, torch.from_numpy(self._anomaly[at])[:, :, None]], 2)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The squared error, a mean over steps and columns."""
        return super().loss(outputs, targets[:, :, :-1])

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Error and number of the windows that forecast no anomaly, then windows by label and score."""
        kept = ~targets.isnan().any((1, 2))
        outputs, targets = outputs[kept], targets[kept]
        score = (outputs - targets[:, :, :-1]).square().mean((1, 2))
        normal = (targets[:, :, -1] < 0.5).all(1)
        place = (score.clamp(10**LOWEST, 10**HIGHEST).log10() - LOWEST) * (BINS / (HIGHEST - LOWEST))
        label = (targets[:, -1, -1] > 0.5).long()
        counts = torch.bincount(place.long().clamp(max=BINS - 1) + BINS * label, minlength=2 * BINS)
        return torch.cat([torch.stack([score[normal].sum(), normal.sum().to(score)]), counts.to(score)])

    def metrics(self, means: list[float]) -> dict[str, float]:
        """`loss` over normal windows, the `threshold`, and with it `f1`, `precision` and `recall`."""
        negative, positive = np.asarray(means[2:]).reshape(2, BINS)
        loss = means[0] / means[1] if means[1] else 0.0
        edges = 10 ** (LOWEST + np.arange(BINS + 1) * ((HIGHEST - LOWEST) / BINS))
        if not positive.sum():
            # Without an anomaly to learn it from: all that is seen is normal.
            return {"loss": loss, "threshold": float(edges[np.flatnonzero(negative).max(initial=0) + 1])}
        found, false = (part[::-1].cumsum()[::-1] for part in (positive, negative))
        f1 = 2 * found / (found + false + positive.sum())
        at = int(f1.argmax())
        return {
            "loss": loss,
            "threshold": float(edges[at]),
            "f1": float(f1[at]),
            "precision": float(found[at] / (found[at] + false[at])),
            "recall": float(found[at] / positive.sum()),
        }

    def describe(self) -> dict[str, Any]:
        """Windows and how they are scaled; the input is a whole window, and the output its score over the threshold."""
        return {
            **super().describe(),
            "input": {"name": "input", "shape": [self.input + self.horizon, len(self.columns)], "dtype": "float32"},
            "output": {"name": "score", "shape": [1]},
            "window": {"input": self.input, "horizon": self.horizon},
        }
