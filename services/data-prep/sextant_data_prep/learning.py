"""What the last pass over a table takes from the training split alone: the others must not leak into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from sextant_data_prep.deciding import Fates
from sextant_data_prep.domain.assigning import TEST, TRAIN
from sextant_data_prep.domain.dictionary import MAX_VALUES
from sextant_data_prep.domain.moments import AllMoments
from sextant_data_prep.domain.quantiles import Quantiles
from sextant_data_prep.merging import Cleaned
from sextant_shared.contracts.cleaning import Missing
from sextant_shared.errors import InvalidInput

Fills = dict[str, float | str]
COLUMNS = 64
"""Columns whose quantiles are looked for at a time: each takes a megabyte or two."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Between which values a column's numbers are no outliers, and how many rows have one."""

    low: float
    high: float
    clip: bool
    rows: int


@dataclass(slots=True)
class Training:
    """The rows of the training split, with outliers brought to their limits as soon as these are known."""

    cleaned: Cleaned
    fates: Fates
    limits: dict[str, Limits] = field(default_factory=dict)

    def frames(self, names: Sequence[str]) -> Iterator[pl.DataFrame]:
        """Some columns."""
        values = [self.value(name) for name in names]
        for first, frame in self.cleaned.staging.parts():
            yield frame.select(values).filter(pl.Series(self.fates[first : first + len(frame)] == TRAIN))

    def value(self, name: str) -> pl.Expr:
        """A column as it is to be used, before missing values are filled."""
        limits = self.limits.get(name)
        return pl.col(name).clip(limits.low, limits.high) if limits and limits.clip else pl.col(name)


def limits(training: Training) -> dict[str, Limits]:
    """By column the limits of outliers, where a step asks for them: far from the quartiles (Tukey 1977).

    Raises InvalidInput for a column that is none of numbers. One of which half the values are the same has none.
    """
    cleaned = training.cleaned
    steps = {name: cleaned.profiles.rules.outliers(name) for name in cleaned.profiles.columns}
    for name, step in steps.items():
        if step and step.columns is not None and name not in cleaned.numeric:
            given = f"outliers: column {name[:80]!r} is none of numbers"
            raise InvalidInput(given, field="clean", accepted="such columns")
    names = [name for name, step in steps.items() if step and name in cleaned.numeric]
    found: dict[str, Limits] = {}
    for name, (first, third) in _quantiles(training, names, (0.25, 0.75)).items():
        step = steps[name]
        if step and third > first:
            far = step.distance * (third - first)
            found[name] = Limits(first - far, third + far, step.action == "clip", 0)
    return _counted(cleaned, training.fates, found)


def _counted(cleaned: Cleaned, fates: Fates, found: dict[str, Limits]) -> dict[str, Limits]:
    if not found:
        return {}
    outside = [((pl.col(n) < one.low) | (pl.col(n) > one.high)).sum().alias(n) for n, one in found.items()]
    rows: Counter[str] = Counter()
    for first, frame in cleaned.staging.parts():
        kept = frame.filter(pl.Series(fates[first : first + len(frame)] <= TEST))
        rows.update(kept.select(outside).row(0, named=True))
    return {name: Limits(one.low, one.high, one.clip, rows[name]) for name, one in found.items()}


def fills(training: Training) -> Fills:
    """What stands for missing values, by column. Raises InvalidInput where a policy does not fit the column."""
    by_policy: dict[str, list[str]] = {}
    found: Fills = {}
    cleaned = training.cleaned
    for name in cleaned.profiles.columns:
        step = cleaned.profiles.rules.missing(name)
        if step is None or step.policy == "drop":
            continue
        if step.policy == "constant":
            found[name] = _constant(step, name, name in cleaned.numeric)
            continue
        if step.policy in ("mean", "median") and name not in cleaned.numeric:
            if step.columns is None:
                continue  # A step for all columns fills those that it can; others keep "missing" as a category.
            raise InvalidInput(
                f"column {name[:80]!r} is none of numbers: it has no {step.policy}",
                field="clean",
                accepted="drop, constant, most-frequent",
            )
        by_policy.setdefault(step.policy, []).append(name)
    for policy, names in by_policy.items():
        found |= LEARN[policy](training, names)
    return found


def _constant(step: Missing, name: str, numeric: bool) -> float | str:
    if numeric and isinstance(step.value, str):
        given = f"column {name[:80]!r} is one of numbers, and {step.value[:80]!r} is none"
        raise InvalidInput(given, field="clean", accepted="a number")
    return str(step.value) if not numeric else float(step.value or 0.0)


def _means(training: Training, names: list[str]) -> Fills:
    moments = AllMoments()
    for frame in training.frames(names):
        moments.add(frame)
    columns = moments.columns()
    return {name: columns[name].mean if name in columns else 0.0 for name in names}


def _medians(training: Training, names: list[str]) -> Fills:
    values = {name: value for name, (value,) in _quantiles(training, names, (0.5,)).items()}
    return {name: 0.0 if np.isnan(value) else value for name, value in values.items()}


def _quantiles(training: Training, names: Sequence[str], shares: Sequence[float]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for start in range(0, len(names), COLUMNS):
        some = {name: Quantiles(shares) for name in names[start : start + COLUMNS]}
        for frame in training.frames(list(some)):
            for name, quantiles in some.items():
                quantiles.count(frame[name].drop_nulls().to_numpy())
        for frame in training.frames(list(some)):
            for name, quantiles in some.items():
                quantiles.refine(frame[name].drop_nulls().to_numpy())
        found |= {name: quantiles.values() for name, quantiles in some.items()}
    return found


def _most_frequent(training: Training, names: list[str]) -> Fills:
    counts: dict[str, Counter[float]] = {name: Counter() for name in names}
    for frame in training.frames(names):
        for name, count in counts.items():
            count.update(dict(frame[name].drop_nulls().value_counts(name="\0count").iter_rows()))
            if len(count) > MAX_VALUES:
                raise InvalidInput(
                    f"column {name[:80]!r} has over {MAX_VALUES} different values: none is the most frequent one",
                    field="clean",
                    accepted="drop, mean, median, constant",
                )
    found: Fills = {}
    for name, count in counts.items():
        cleaned = training.cleaned
        words = None if name in cleaned.numeric else cleaned.profiles.dictionary(name).values()
        named = {words[int(code)] if words else code: times for code, times in count.items()}
        found[name] = min(named, key=lambda value: (-named[value], value), default=0.0)
    return found


LEARN: dict[str, Callable[[Training, list[str]], Fills]] = {
    "mean": _means,
    "median": _medians,
    "most-frequent": _most_frequent,
}
