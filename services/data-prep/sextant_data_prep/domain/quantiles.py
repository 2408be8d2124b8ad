"""The exact quantiles of more numbers than memory holds, in two passes over them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SIGN = np.uint32(0x8000_0000)


class Quantiles:
    """Those of 32-bit floats, the lower one of two numbers. Give all numbers to `count`, then all again to `refine`."""

    def __init__(self, shares: Sequence[float]) -> None:
        """`shares` of the numbers that are to lie below: 0.5 is for the median."""
        self._shares = shares
        self._coarse = np.zeros(1 << 16, np.int64)
        self._fine = np.zeros((len(shares), 1 << 16), np.int64)
        self._bins: list[int] = []
        self._ranks: list[int] = []
        """Of each quantile, within its bin."""

    def count(self, values: NDArray[np.float32]) -> None:
        """First pass: the upper half of the bits."""
        self._coarse += np.bincount(_ordered(values) >> 16, minlength=1 << 16)

    def refine(self, values: NDArray[np.float32]) -> None:
        """Second pass: the lower half, of the numbers that share a quantile's upper half."""
        if not self._bins:
            self._find_bins()
        bits = _ordered(values)
        upper = bits >> 16
        for number, place in enumerate(self._bins):
            self._fine[number] += np.bincount(bits[upper == place] & 0xFFFF, minlength=1 << 16)

    def _find_bins(self) -> None:
        sums = np.cumsum(self._coarse)
        for share in self._shares:
            rank = int(share * max(0, int(sums[-1]) - 1))
            place = _place(self._coarse, rank)
            self._bins.append(place)
            self._ranks.append(rank - int(sums[place] - self._coarse[place]) if sums[-1] else 0)

    def values(self) -> list[float]:
        """A quantile for each share; NaN where there was no number."""
        if not self._coarse.any():
            return [float("nan")] * len(self._shares)
        lows = map(_place, self._fine, self._ranks)
        bits = np.array([place << 16 | low for place, low in zip(self._bins, lows, strict=True)], np.uint32)
        found: list[float] = np.where(bits & SIGN, bits ^ SIGN, ~bits).astype(np.uint32).view(np.float32).tolist()
        return found


def _place(counts: NDArray[np.int64], rank: int) -> int:
    """The bin that holds the number of this rank."""
    return int(np.searchsorted(np.cumsum(counts), rank, side="right"))


def _ordered(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Bits that are in the order of the numbers: IEEE 754 has sign and magnitude."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    ordered: NDArray[np.uint32] = np.where(bits & SIGN, ~bits, bits | SIGN)
    return ordered
