"""Rows of series that are not as those before let expect: forecasts of normal rows, and a threshold for their errors.

What is learnt is the forecast of windows without a labelled anomaly. A window's score is its squared error and `level`
times the squared distance of its rows from the mean of the training split: what creeps away is forecast well, but lies
far off. Both are means over the horizon. A window is an anomaly where its last row is one. The threshold is the best
for F1 on the validation split, and so is `level` where none is given.
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
LEVELS = (0.0, 1.0)
"""What is chosen from; the last one where validation has no anomaly to choose by."""


class Anomalies(Forecasting):
    """As forecasting; targets have one column more, which is 1 where a row is an anomaly."""

    name = "anomaly-detection"

    def __init__(self, directory: Path, level: float | None) -> None:
        super().__init__(directory)
        self._levels = LEVELS if level is None else (level,)
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
        """Error and number of the windows that forecast no anomaly, then for each level windows by label and score."""
        kept = ~targets.isnan().any((1, 2))
        outputs, targets = outputs[kept], targets[kept]
        values, label = targets[:, :, :-1], (targets[:, -1, -1] > 0.5).long()
        error, far = (part.square().mean((1, 2)) for part in (outputs - values, values))
        normal = (targets[:, :, -1] < 0.5).all(1)
        counts = [_counts(error + level * far, label) for level in self._levels]
        return torch.cat([torch.stack([error[normal].sum(), normal.sum().to(error)]), *counts])

    def metrics(self, means: list[float]) -> dict[str, float]:
        """`loss` over normal windows, `level` and `threshold`, and with these `f1`, `precision` and `recall`."""
        loss = means[0] / means[1] if means[1] else 0.0
        found = [_best(*counts) for counts in np.asarray(means[2:]).reshape(-1, 2, BINS)]
        place = max(range(len(found)), key=lambda at: found[at].get("f1", float(at)))
        return {"loss": loss, "level": self._levels[place], **found[place]}

    def describe(self) -> dict[str, Any]:
        """Windows and how they are scaled; the input is a whole window, and the output its score over the threshold."""
        return {
            **super().describe(),
            "input": {"name": "input", "shape": [self.input + self.horizon, len(self.columns)], "dtype": "float32"},
            "output": {"name": "score", "shape": [1]},
            "window": {"input": self.input, "horizon": self.horizon},
        }


def _counts(score: Tensor, label: Tensor) -> Tensor:
    """Windows in each bin, those that are no anomalies first."""
    place = (score.clamp(10**LOWEST, 10**HIGHEST).log10() - LOWEST) * (BINS / (HIGHEST - LOWEST))
    return torch.bincount(place.long().clamp(max=BINS - 1) + BINS * label, minlength=2 * BINS).to(score)


def _best(negative: NDArray[np.float64], positive: NDArray[np.float64]) -> dict[str, float]:
    """The threshold with the best F1 and what comes of it; without an anomaly to learn it from, all is normal."""
    edges = 10 ** (LOWEST + np.arange(BINS + 1) * ((HIGHEST - LOWEST) / BINS))
    if not positive.sum():
        return {"threshold": float(edges[np.flatnonzero(negative).max(initial=0) + 1])}
    found, false = (part[::-1].cumsum()[::-1] for part in (positive, negative))
    f1 = 2 * found / (found + false + positive.sum())
    at = int(f1.argmax())
    return {
        "threshold": float(edges[at]),
        "f1": float(f1[at]),
        "precision": float(found[at] / (found[at] + false[at])),
        "recall": float(found[at] / positive.sum()),
    }
