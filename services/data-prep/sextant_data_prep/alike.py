"""Texts that are nearly the same as one before: signatures on disk, candidates by bands, one band at a time."""

from __future__ import annotations

from pathlib import Path
from typing import IO

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_data_prep.buckets import Buckets, Entries
from sextant_data_prep.domain import minhash
from sextant_data_prep.domain.assigning import ALIKE, TEST
from sextant_data_prep.domain.minhash import BINS, Signatures

ROWS = 1 << 16


def write_signatures(file: IO[bytes], texts: pl.Series) -> None:
    """Append those of rows, in the order of the staging."""
    for first in range(0, len(texts), ROWS):
        file.write(minhash.signatures(texts[first : first + ROWS]).tobytes())


class Alike:
    """Marks the texts that are like one before with the same label, by the signatures of all.

    Texts that are alike and have different labels stay: "turn it on" and "turn it off" are.
    """

    def __init__(self, directory: Path, signatures: Path, threshold: float) -> None:
        """Files are made below `directory`, which must exist; `threshold` is of the Jaccard similarity."""
        self._directory = directory
        self._path = signatures
        self.threshold = threshold

    def mark(self, fates: NDArray[np.uint8], content: Buckets) -> None:
        """Set the fate of each row that is left and like one before to ALIKE. Labels are taken from `content`."""
        if not len(fates):
            return
        labels = np.empty(len(fates), np.int32)
        for entries in content.parts():
            labels[entries["row"]] = entries["label"]
        stored: Signatures = np.memmap(self._path, np.uint16, "r", shape=(len(fates), BINS))
        width = minhash.rows_per_band(self.threshold)
        for start in range(0, BINS - width + 1, width):
            with Buckets(self._directory, "band") as bands:
                for first in range(0, len(fates), ROWS):
                    part = stored[first : first + ROWS, start : start + width]
                    bands.add(minhash.band_keys(part), first, labels[first : first + ROWS])
            for entries in bands.parts():
                self._mark_within(entries, stored, fates)

    def _mark_within(self, entries: Entries, stored: Signatures, fates: NDArray[np.uint8]) -> None:
        """Compare each row with the first of its band's group and with the one just before it."""
        fate = fates[entries["row"]]
        entries = entries[(fate <= TEST) | (fate > ALIKE)]
        order = np.lexsort((entries["row"], entries["label"], entries["key"]))
        entries = entries[order]
        same = (entries["key"][1:] == entries["key"][:-1]) & (entries["label"][1:] == entries["label"][:-1])
        places = np.flatnonzero(same) + 1
        starts = np.maximum.accumulate(np.where(np.concatenate([[False], same]), 0, np.arange(len(entries))))
        for first in range(0, len(places), ROWS):
            some = places[first : first + ROWS]
            rows = entries["row"][some]
            own = stored[rows]
            alike = minhash.similarity(own, stored[entries["row"][starts[some]]]) >= self.threshold
            alike |= minhash.similarity(own, stored[entries["row"][some - 1]]) >= self.threshold
            fates[rows[alike]] = ALIKE
