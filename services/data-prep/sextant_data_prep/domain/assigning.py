"""Which row of sorted keys goes to which split, and which rows stood there before. Parts of the keys, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRAIN, VAL, TEST, DUPLICATE, CONTRADICTION, ALIKE = range(6)
"""What becomes of a row: a split, or why it is left out. CONTRADICTION is a duplicate with another label."""
Places = NDArray[np.int64]


def group_starts(keys: NDArray[np.uint64]) -> Places:
    """Where in sorted keys each new key begins."""
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.empty(0, np.int64)


def repeated(keys: NDArray[np.uint64], labels: NDArray[np.int32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which entries of sorted keys stood there before, and which of these with another label than at first."""
    starts = group_starts(keys)
    again = np.ones(len(keys), bool)
    again[starts] = False
    first = np.repeat(labels[starts], np.diff(starts, append=len(keys)))
    return again, again & (labels != first)


@dataclass(slots=True)
class Shares:
    """The shares of each class, filled in the order of the keys: first the test split, then validation."""

    test: Places
    val: Places
    taken: Places

    @classmethod
    def of(cls, totals: Places, val: float, test: float) -> Shares:
        """For classes with `totals` rows."""
        # As `round` does it for a single number: to the even one at a half.
        return cls(
            np.rint(totals * test).astype(np.int64), np.rint(totals * val).astype(np.int64), np.zeros_like(totals)
        )

    def assign(self, keys: NDArray[np.uint64], labels: NDArray[np.int32]) -> NDArray[np.uint8]:
        """The split of each entry of sorted keys. Equal keys go together, with the label of the first of them."""
        starts = group_starts(keys)
        sizes = np.diff(starts, append=len(keys))
        homes = labels[starts]
        order = np.argsort(homes, kind="stable")
        ordered, counts = homes[order], sizes[order]
        before = np.cumsum(counts) - counts
        first = np.flatnonzero(np.diff(ordered, prepend=-1))
        offset = np.repeat(before[first], np.diff(first, append=len(ordered)))
        taken = before - offset + self.taken[ordered]
        splits = np.full(len(starts), TRAIN, np.uint8)
        splits[order[taken < (self.test + self.val)[ordered]]] = VAL
        splits[order[taken < self.test[ordered]]] = TEST
        self.taken += np.bincount(ordered, counts, minlength=len(self.taken)).astype(np.int64)
        return np.repeat(splits, sizes)
