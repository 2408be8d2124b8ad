"""Which sample comes when: a pure function of the seed and the step, whatever the number of ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

HELD_ROWS = 1 << 22
"""Up to as many the order of an epoch is held in memory, 8 bytes a row; of more it is reckoned for each batch."""
ROUNDS = 6


@dataclass(frozen=True, slots=True)
class GlobalOrder:
    """One stream of `rows` samples over and over, shuffled anew each epoch, cut into global batches of one size.

    A batch may hold the end of one epoch and the beginning of the next, so that every batch is full: any plan that can
    take one can take all. As no rank appears in it, a run that changes its ranks sees the same samples.
    """

    rows: int
    wanted: int
    """Samples a batch, where there are as many."""
    seed: int

    @property
    def batch(self) -> int:
        """Samples of each global batch."""
        return min(self.wanted, self.rows)

    def steps(self, epochs: int) -> int:
        """Batches that hold so many epochs; the last one may reach into another."""
        return -(-epochs * self.rows // self.batch)

    def ended(self, steps: int) -> int | None:
        """The number of epochs that the last of so many steps has completed, if it has completed one."""
        epochs = steps * self.batch // self.rows
        return epochs if self.steps(epochs) == steps and epochs else None

    def batch_at(self, step: int) -> NDArray[np.int64]:
        """The rows (batch,) of a step, which counts from 0."""
        begin = step * self.batch
        epoch, offset = divmod(begin, self.rows)
        first = self._rows_at(epoch, offset, min(offset + self.batch, self.rows))
        missing = self.batch - len(first)
        if not missing:
            return first
        return np.concatenate([first, self._rows_at(epoch + 1, 0, missing)])

    def _rows_at(self, epoch: int, begin: int, end: int) -> NDArray[np.int64]:
        """What stands at the places [begin, end) of an epoch."""
        if self.rows <= HELD_ROWS:
            return _permutation(self.seed, epoch, self.rows)[begin:end]
        return _scattered(np.random.default_rng([self.seed, epoch]), self.rows, np.arange(begin, end, dtype=np.uint64))


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    order.flags.writeable = False
    return order


def _scattered(rng: np.random.Generator, rows: int, places: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where a keyed permutation of `rows` numbers puts each of `places`, without the others.

    A Feistel network (Luby and Rackoff, 1988) over the next even power of two, gone through again by what falls outside
    (cycle walking: Black and Rogaway, 2002). The rounds mix by SplitMix64's finaliser (Steele et al., 2014).
    """
    half = np.uint64(((rows - 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << int(half)) - 1)
    keys = rng.integers(0, 2**64, ROUNDS, dtype=np.uint64)
    found, outside = places.copy(), np.ones(len(places), bool)
    while outside.any():
        left, right = found[outside] >> half, found[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        found[outside] = left << half | right
        outside = found >= rows
    return found.astype(np.int64)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
