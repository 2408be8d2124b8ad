"""What is worth knowing of a prepared dataset: figures for its report, and what a reader should be warned of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 24
IMBALANCE = 20
MOSTLY_MISSING = 0.5


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts between `low` and `high`, in bins of the same width."""

    low: float
    high: float
    counts: list[int]


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the source: the share of its values that is missing, and how the others are distributed."""

    name: str
    missing: float
    histogram: Histogram | None = None
    categories: list[tuple[str, int]] = field(default_factory=list)
    """The most frequent ones, with their rows."""


@dataclass(frozen=True, slots=True)
class Quality:
    """All that the report shows beside the dataset's description."""

    read: int
    columns: list[Column] = field(default_factory=list)


def histogram(values: NDArray[Any]) -> Histogram | None:
    """The distribution of numbers; None where there are none."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size:
        return None
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        return Histogram(low, high, [finite.size])
    return Histogram(low, high, np.histogram(finite, BINS)[0].tolist())


def warnings(quality: Quality, described: dict[str, Any]) -> list[str]:
    """What may spoil a model that is trained on this."""
    found = [*_of_columns(quality.columns), *_of_outliers(described)]
    return [*found, *_of_classes(described), *_of_leaks(described)]


def _of_columns(columns: Sequence[Column]) -> Iterator[str]:
    for column in columns:
        if column.missing > MOSTLY_MISSING:
            yield f"{column.name}: {column.missing:.0%} of the values are missing"
        shape = column.histogram
        if (shape and shape.low == shape.high) or (not shape and len(column.categories) == 1 and not column.missing):
            yield f"{column.name}: all values are the same"


def _of_outliers(described: dict[str, Any]) -> Iterator[str]:
    for name, limits in described.get("outliers", {}).items():
        if limits["rows"]:
            done = "brought to these" if limits["clip"] else "left as they are"
            span = f"{limits['low']:.4g} to {limits['high']:.4g}"
            yield f"{name}: {limits['rows']} values lie far outside the others, over {span}: {done}"


def _of_classes(described: dict[str, Any]) -> Iterator[str]:
    classes = described["target"]["classes"]
    for split, info in described["splits"].items():
        absent = [name for name, count in zip(classes, info["class_counts"], strict=True) if not count]
        if absent:
            yield f"{len(absent)} classes have no row in {split}: {', '.join(absent[:5])}"
    counts = [count for count in described["splits"]["train"]["class_counts"] if count]
    if counts and max(counts) > IMBALANCE * min(counts):
        yield f"the largest class has {max(counts) / min(counts):.0f} times the rows of the smallest"


def _of_leaks(described: dict[str, Any]) -> Iterator[str]:
    for reason, count in described.get("flagged", {}).items():
        yield f"{count} times: {reason}"
    for leak in described.get("leaks", []):
        yield f"{leak['column']} {leak['reason']}: a model that sees it learns nothing else"
