"""A column of words as codes: each different word is looked at once, however often it stands there."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

MAX_VALUES = 100_000
"""With more different values a column is none of categories; they are no longer kept then."""


class Dictionary:
    """The different values of a column, in the order in which they came, with the number of rows of each."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}
        self.hashes: NDArray[np.uint64] = np.empty(0, np.uint64)
        self.counts: NDArray[np.int64] = np.empty(0, np.int64)
        self.more = False

    def encode(self, column: pl.Series) -> pl.Series:
        """The codes of a column of texts; null for a missing value, and for all once there are too many."""
        if self.more:
            return pl.Series(column.name, [None], pl.UInt32).new_from_index(0, len(column))
        local = column.to_arrow(compat_level=pl.CompatLevel.oldest()).dictionary_encode()
        places = self._places(local.dictionary.to_pylist())
        indices = local.indices.fill_null(0).to_numpy()
        codes = places[indices] if len(places) else np.zeros(len(column), np.uint32)
        missing = local.indices.is_null().to_numpy(zero_copy_only=False)
        self.counts += np.bincount(codes[~missing], minlength=len(self.counts))
        self.more = len(self.codes) > MAX_VALUES
        return pl.Series(column.name, pl.from_arrow(pa.array(codes, mask=missing)))

    def absorb(self, words: list[str], counts: list[int], *, more: bool) -> NDArray[np.uint32]:
        """Take in the values of another column, of which there may have been `more`; the code here of each."""
        places = self._places(words)
        self.counts += np.bincount(places, counts, minlength=len(self.counts)).astype(np.int64)
        self.more = self.more or more or len(self.codes) > MAX_VALUES
        return places

    def values(self) -> list[str]:
        """The value of each code."""
        return list(self.codes)

    def _places(self, words: list[str]) -> NDArray[np.uint32]:
        known = len(self.codes)
        places = np.array([self.codes.setdefault(word, len(self.codes)) for word in words], np.uint32)
        added = list(self.codes)[known:] if len(self.codes) > known else []
        hashes = np.fromiter((xxh3_64_intdigest(word.encode()) for word in added), np.uint64, len(added))
        self.hashes = np.concatenate([self.hashes, hashes])
        self.counts = np.concatenate([self.counts, np.zeros(len(added), np.int64)])
        return places
