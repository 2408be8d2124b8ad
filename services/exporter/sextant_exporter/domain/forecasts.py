"""Errors of forecasts, on the series as it was scaled for training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Errors:
    """Means over windows, steps and columns; `naive_mse` is that of repeating the last value."""

    mse: float
    mae: float
    naive_mse: float
    by_column: list[float]
    """The squared error of each."""

    def figures(self) -> dict[str, float]:
        """The metrics that a requirement can name."""
        return {"mse": self.mse, "mae": self.mae, "naive_mse": self.naive_mse}


class ErrorSums:
    """Errors of windows that come one batch after the other."""

    def __init__(self, std: NDArray[np.float64]) -> None:
        """The deviations (columns,) that the series was scaled by."""
        self._std = std
        self._squared = np.zeros(len(std))
        self._absolute, self._naive, self._count = 0.0, 0.0, 0

    def add(self, forecasts: NDArray[Any], targets: NDArray[Any], last: NDArray[Any]) -> None:
        """(batch, horizon, columns) twice, and the last values that were seen, (batch, 1, columns)."""
        error = (forecasts.astype(np.float64) - targets) / self._std
        self._squared += np.square(error).sum((0, 1))
        self._absolute += float(np.abs(error).sum())
        self._naive += float(np.square((last.astype(np.float64) - targets) / self._std).sum())
        self._count += error.shape[0] * error.shape[1]

    def errors(self) -> Errors:
        """Of all that was added."""
        columns = self._squared / self._count
        values = self._count * len(columns)
        return Errors(float(columns.mean()), self._absolute / values, self._naive / values, columns.tolist())
