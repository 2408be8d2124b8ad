"""The exact median of more numbers than memory holds, in two passes over them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SIGN = np.uint32(0x8000_0000)


class Median:
    """The lower median of 32-bit floats. Give all numbers to `count`, then all again to `refine`."""

    def __init__(self) -> None:
        self._coarse = np.zeros(1 << 16, np.int64)
        self._fine = np.zeros(1 << 16, np.int64)
        self._bin: int | None = None
        self._before = 0

    def count(self, values: NDArray[np.float32]) -> None:
        """First pass: the upper half of the bits."""
        self._coarse += np.bincount(_ordered(values) >> 16, minlength=1 << 16)

    def refine(self, values: NDArray[np.float32]) -> None:
        """Second pass: the lower half, of the numbers that share the median's upper half."""
        if self._bin is None:
            sums = np.cumsum(self._coarse)
            self._bin = int(np.searchsorted(sums, self._rank, side="right"))
            self._before = int(sums[self._bin] - self._coarse[self._bin])
        bits = _ordered(values)
        self._fine += np.bincount(bits[bits >> 16 == self._bin] & 0xFFFF, minlength=1 << 16)

    @property
    def _rank(self) -> int:
        return max(0, (int(self._coarse.sum()) - 1) // 2)

    def value(self) -> float:
        """The median; NaN where there was no number."""
        if self._bin is None or not self._coarse.sum():
            return float("nan")
        low = int(np.searchsorted(np.cumsum(self._fine), self._rank - self._before, side="right"))
        bits = np.array([(self._bin << 16) | low], np.uint32)
        return float(np.where(bits & SIGN, bits ^ SIGN, ~bits).astype(np.uint32).view(np.float32)[0])


def _ordered(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Bits that are in the order of the numbers: IEEE 754 has sign and magnitude."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    ordered: NDArray[np.uint32] = np.where(bits & SIGN, ~bits, bits | SIGN)
    return ordered
