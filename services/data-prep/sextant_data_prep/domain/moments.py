"""Mean, spread and range of columns, gathered frame by frame and equal to those of all rows at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import polars as pl

ROWS = 1 << 16


@dataclass(slots=True)
class Moments:
    """Of one column. Parts are merged as Chan, Golub and LeVeque (1979) do it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0
    """The sum of squared distances to the mean."""
    low: float = math.inf
    high: float = -math.inf

    def merge(self, count: int, mean: float, squares: float, low: float, high: float) -> None:
        """Take in a part of at least one value."""
        total = self.count + count
        delta = mean - self.mean
        self.mean += delta * count / total
        self.squares += squares + delta * delta * self.count * count / total
        self.count, self.low, self.high = total, min(self.low, low), max(self.high, high)

    def plain(self) -> dict[str, Any]:
        """As it stands in a dataset's description."""
        std = math.sqrt(max(0.0, self.squares) / self.count) if self.count else 0.0
        return {"mean": self.mean, "std": std, "min": self.low, "max": self.high}


class AllMoments:
    """Of every numeric column of frames. How rows are spread over frames leaves no trace, not even in rounding."""

    def __init__(self) -> None:
        self._columns: dict[str, Moments] = {}
        self._waiting: list[pl.DataFrame] = []
        self._rows = 0

    def add(self, frame: pl.DataFrame) -> None:
        """Take in rows; missing values do not count."""
        self._waiting.append(frame)
        self._rows += len(frame)
        while self._rows >= ROWS:
            whole = pl.concat(self._waiting)
            self._merge(whole[:ROWS].rechunk())
            self._waiting, self._rows = [whole[ROWS:]], self._rows - ROWS

    def columns(self) -> dict[str, Moments]:
        """By column, as soon as all rows are there."""
        if self._rows:
            self._merge(pl.concat(self._waiting).rechunk())
        self._waiting, self._rows = [], 0
        return self._columns

    def _merge(self, frame: pl.DataFrame) -> None:
        found = [
            frame.select(expression).row(0) if len(frame) else ()
            for expression in (
                pl.all().count(),
                pl.all().cast(pl.Float64).mean(),
                pl.all().cast(pl.Float64).var(ddof=0),
                pl.all().min(),
                pl.all().max(),
            )
        ]
        for name, count, mean, var, low, high in zip(frame.columns, *found, strict=False):
            if count:
                self._columns.setdefault(name, Moments()).merge(count, mean, var * count, low, high)
