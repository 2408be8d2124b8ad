"""Mean, spread and range of pixels by channel, gathered batch by batch: whole numbers, exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GREY = np.arange(256)


@dataclass(slots=True)
class PixelMoments:
    """How often each value stands in each channel."""

    counts: Any = 0

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Rows (n, channels, height, width)."""
        each = [np.bincount(pixels[:, channel].ravel(), minlength=256) for channel in range(pixels.shape[1])]
        self.counts = self.counts + np.stack(each)

    def figures(self) -> dict[str, Any]:
        """Mean and deviation by channel."""
        count = self.counts[0].sum()
        mean = self.counts @ GREY / count
        return {"mean": mean.tolist(), "std": np.sqrt(np.maximum(0, self.counts @ GREY**2 / count - mean**2)).tolist()}

    def range(self) -> dict[str, Any]:
        """The least and the greatest value of all."""
        there = np.flatnonzero(self.counts.sum(0))
        return {"min": float(there[0]), "max": float(there[-1])}
