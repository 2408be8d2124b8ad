"""Which sample comes when: a pure function of the seed and the step, whatever the number of ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


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
        first = _permutation(self.seed, epoch, self.rows)[offset : offset + self.batch]
        missing = self.batch - len(first)
        if not missing:
            return first
        return np.concatenate([first, _permutation(self.seed, epoch + 1, self.rows)[:missing]])


@lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    order = np.random.default_rng([seed, epoch]).permutation(rows)
    order.flags.writeable = False
    return order
