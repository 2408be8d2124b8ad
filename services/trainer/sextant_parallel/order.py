"""Which sample comes when: a pure function of the seed and the global position, whatever the number of ranks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class GlobalOrder:
    """The order of `rows` samples: shuffled anew each epoch, in global batches of `batch` (the last may be smaller).

    A position counts samples from the start of training. As no rank appears in it, a run that changes its number of
    ranks, or resumes after a kill, sees the same samples in the same batches.
    """

    rows: int
    batch: int
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass."""
        return -(-self.rows // self.batch)

    def permutation(self, epoch: int) -> NDArray[np.int64]:
        """The order of one epoch."""
        return np.random.default_rng([self.seed, epoch]).permutation(self.rows)

    def batch_at(self, permutation: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """The rows of the step-th batch of an epoch."""
        return permutation[step * self.batch : (step + 1) * self.batch]

    @staticmethod
    def share(batch: NDArray[np.int64], rank: int, size: int) -> NDArray[np.int64]:
        """The part of a global batch that one rank takes: contiguous, as even as can be, possibly empty."""
        bounds = np.linspace(0, len(batch), size + 1).round().astype(int)
        return batch[bounds[rank] : bounds[rank + 1]]
