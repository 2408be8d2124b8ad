"""Figures of the training split, gathered as its rows go by: moments, lengths, and evenly spaced rows for pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_data_prep.domain.assigning import TRAIN
from sextant_data_prep.domain.columns import Profile
from sextant_data_prep.domain.moments import AllMoments
from sextant_data_prep.domain.quality import Column, histogram
from sextant_data_prep.merging import Cleaned

TEXT = "text"
SAMPLE = 20_000
MOST_CATEGORIES = 12


class TableFigures:
    """Figures of the training split by feature."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._moments = AllMoments()

    def add(self, part: pl.DataFrame) -> None:
        """Take in rows."""
        self._moments.add(part.select(self._names))

    def plain(self) -> dict[str, Any]:
        """As they stand in the description."""
        return {name: moments.plain() for name, moments in self._moments.columns().items()}


class TextLengths:
    """The lengths of the training split's texts."""

    def __init__(self) -> None:
        self._low, self._high = 2**62, 0

    def add(self, part: pl.DataFrame) -> None:
        """Take in rows."""
        if len(part):
            lengths = part[TEXT].str.len_chars()
            low, high = lengths.to_numpy().min(), lengths.to_numpy().max()
            self._low, self._high = min(self._low, int(low)), max(self._high, int(high))

    def plain(self) -> dict[str, Any]:
        """As they stand in the description."""
        return {TEXT: {"min_length": self._low, "max_length": self._high}}


class Sampler:
    """Evenly spaced rows of the source that are in the training split: the same ones each time."""

    def __init__(self, cleaned: Cleaned) -> None:
        self._text = cleaned.roles.text
        self._names = sorted(cleaned.numeric)
        self._stride = max(1, cleaned.staging.rows // SAMPLE)
        self._parts: list[pl.DataFrame] = []

    def add(self, first: int, frame: pl.DataFrame, fate: NDArray[np.uint8]) -> None:
        """Take in staged rows, the first of which has the number `first`."""
        rows = np.arange(-first % self._stride, len(frame), self._stride)
        rows = rows[fate[rows] == TRAIN]
        if self._text is not None:
            self._parts.append(frame[rows].select(pl.col(self._text).str.len_chars().alias(TEXT)))
        elif self._names:
            self._parts.append(frame[rows].select(self._names))

    def columns(self, cleaned: Cleaned) -> list[Column]:
        """What the report shows of each column."""
        sample = pl.concat(self._parts) if self._parts else pl.DataFrame()
        if self._text is not None:
            lengths = sample[TEXT].to_numpy() if len(sample) else np.empty(0)
            return [Column("characters of the text", 0.0, histogram(lengths))]
        profiles = cleaned.profiles
        return [_column(name, profile, profiles.rows, sample) for name, profile in profiles.columns.items()]


def _column(name: str, profile: Profile, rows: int, sample: pl.DataFrame) -> Column:
    missing = 1 - profile.present / rows if rows else 0.0
    if name in sample.columns:
        return Column(name, missing, histogram(sample[name].drop_nulls().to_numpy()))
    words = profile.dictionary
    counts = [] if words is None else list(zip(words.values(), words.counts.tolist(), strict=True))
    ranked = sorted(counts, key=lambda pair: (-pair[1], pair[0]))
    return Column(name, missing, None, ranked[:MOST_CATEGORIES])
