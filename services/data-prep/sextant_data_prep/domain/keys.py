"""A number for the content of each row: equal rows have equal ones, today and after any update of a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from sextant_data_prep.domain.dictionary import Dictionary

Keys = NDArray[np.uint64]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
NOTHING = np.uint64(-0x9E3779B97F4A7C15 % 2**64)
"""What `_mix` makes 0 of: a missing value adds nothing."""


def row_keys(
    frame: pl.DataFrame, columns: Sequence[str], seed: int, dictionaries: Mapping[str, Dictionary] | None = None
) -> Keys:
    """64 bits for each row's values of these columns; a column that is missing is one of missing values.

    Two rows of 30 million that differ have the same key with a probability of 2e-5. The order of columns is no matter.
    """
    total = np.full(len(frame), seed, np.uint64)
    for name in columns:
        dictionary = dictionaries.get(name) if dictionaries else None
        total += _mix(_column(frame[name], dictionary, xxh3_64_intdigest(name.encode())))
    return _mix(total)


def _column(values: pl.Series, dictionary: Dictionary | None, salt: int) -> Keys:
    if dictionary is not None:
        hashes = _coded(values, dictionary)
    else:
        hashes = _texts(values) if values.dtype == pl.String else _numbers(values)
    hashes ^= np.uint64(salt)
    if values.null_count():
        hashes[values.is_null().to_numpy()] = NOTHING
    return hashes


def _numbers(values: pl.Series) -> Keys:
    # Adding 0.0 makes -0.0 and 0.0 one value.
    numbers = values.fill_null(0.0).to_numpy().astype(np.float32) + np.float32(0.0)
    return numbers.view(np.uint32).astype(np.uint64)


def _coded(values: pl.Series, dictionary: Dictionary) -> Keys:
    if values.null_count() == len(values):
        return np.zeros(len(values), np.uint64)
    keys: Keys = dictionary.hashes[values.fill_null(0).to_numpy()]
    return keys


def _texts(values: pl.Series) -> Keys:
    words = values.fill_null("").cast(pl.Binary).to_list()
    return np.fromiter(map(xxh3_64_intdigest, words), np.uint64, len(values))


def _mix(bits: Keys) -> Keys:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection whose every bit depends on all."""
    mixed = bits + GOLDEN
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed
