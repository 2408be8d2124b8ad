"""Texts that are nearly the same as one before: signatures on disk, candidates by bands, one band at a time."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_data_prep.buckets import Buckets, Entries
from sextant_data_prep.domain import minhash
from sextant_data_prep.domain.assigning import ALIKE, TEST
from sextant_data_prep.domain.minhash import BINS, Signatures

ROWS = 1 << 16


class Alike:
    """Takes the texts batch by batch, then marks those that are like one before with the same label.

    Texts that are alike and have different labels stay: "turn it on" and "turn it off" are.
    """

    def __init__(self, directory: Path, threshold: float) -> None:
        """Files are made below `directory`, which must exist; `threshold` is of the Jaccard similarity."""
        self._directory = directory
        self._path = directory / "signatures"
        self.threshold = threshold

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, texts: pl.Series) -> None:
        """Take in rows, in the order of the staging."""
        for first in range(0, len(texts), ROWS):
            self._file.write(minhash.signatures(texts[first : first + ROWS]).tobytes())

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
