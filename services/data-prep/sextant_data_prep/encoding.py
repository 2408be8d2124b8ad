"""The last pass over a table: missing values filled from the training split, categories to columns, all to Float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator

import numpy as np
import polars as pl

from sextant_data_prep.cleaning import Cleaned
from sextant_data_prep.deciding import Fates
from sextant_data_prep.domain.assigning import TRAIN
from sextant_data_prep.domain.dictionary import MAX_VALUES
from sextant_data_prep.domain.medians import Median
from sextant_data_prep.domain.moments import AllMoments
from sextant_data_prep.domain.samples import RESERVED
from sextant_shared.contracts.cleaning import Missing
from sextant_shared.errors import InvalidInput

Fills = dict[str, float | str]
OTHER = "(other)"


def features(cleaned: Cleaned, fates: Fates) -> dict[str, pl.Expr]:
    """By the feature's name how it is made of the staged columns."""
    made: dict[str, pl.Expr] = {}
    found = _fills(cleaned, fates)
    for name, profile in cleaned.profiles.columns.items():
        if not profile.present:
            continue
        if name in cleaned.numeric:
            filled = pl.col(name).fill_null(found[name]) if name in found else pl.col(name)
            made[_free(name, made)] = filled.cast(pl.Float32)
        else:
            _add_categories(cleaned, name, str(found.get(name, "")), made)
        step = cleaned.profiles.rules.missing(name)
        if step and step.flag:
            made[_free(f"{name}=missing", made)] = pl.col(name).is_null().cast(pl.Float32)
    return {name: expression.alias(name) for name, expression in made.items()}


def _add_categories(cleaned: Cleaned, name: str, fill: str, made: dict[str, pl.Expr]) -> None:
    values, others = cleaned.profiles.categories(name)
    if fill and fill not in values and not others:
        values = sorted([*values, fill])
    codes, column = cleaned.profiles.dictionary(name).codes, pl.col(name)
    for value in values:
        is_it = column == codes[value] if value in codes else column.is_null()
        made[_free(f"{name}={value}", made)] = is_it.fill_null(value == fill).cast(pl.Float32)
    if others:
        is_other = ~column.is_in([codes[value] for value in values if value in codes])
        made[_free(f"{name}={OTHER}", made)] = is_other.fill_null(fill not in values).cast(pl.Float32)


def _free(name: str, taken: Container[str]) -> str:
    """The name, or, where a feature or the files have it already, the name with underscores behind it."""
    while name in taken or name in RESERVED:
        name += "_"
    return name


def _fills(cleaned: Cleaned, fates: Fates) -> Fills:
    """What stands for missing values, by column. Learnt from the training split alone: the others must not leak in."""
    by_policy: dict[str, list[str]] = {}
    fills: Fills = {}
    for name in cleaned.profiles.columns:
        step = cleaned.profiles.rules.missing(name)
        if step is None or step.policy == "drop":
            continue
        if step.policy == "constant":
            fills[name] = _constant(step, name, name in cleaned.numeric)
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
        fills |= LEARN[policy](cleaned, fates, names)
    return fills


def _constant(step: Missing, name: str, numeric: bool) -> float | str:
    if numeric and isinstance(step.value, str):
        given = f"column {name[:80]!r} is one of numbers, and {step.value[:80]!r} is none"
        raise InvalidInput(given, field="clean", accepted="a number")
    return str(step.value) if not numeric else float(step.value or 0.0)


def _train(cleaned: Cleaned, fates: Fates, names: list[str]) -> Iterator[pl.DataFrame]:
    for first, frame in cleaned.staging.parts():
        yield frame.select(names).filter(pl.Series(fates[first : first + len(frame)] == TRAIN))


def _means(cleaned: Cleaned, fates: Fates, names: list[str]) -> Fills:
    moments = AllMoments()
    for frame in _train(cleaned, fates, names):
        moments.add(frame)
    return {name: moments.columns[name].mean if name in moments.columns else 0.0 for name in names}


def _medians(cleaned: Cleaned, fates: Fates, names: list[str]) -> Fills:
    medians = {name: Median() for name in names}
    for frame in _train(cleaned, fates, names):
        for name, median in medians.items():
            median.count(frame[name].drop_nulls().to_numpy())
    for frame in _train(cleaned, fates, names):
        for name, median in medians.items():
            median.refine(frame[name].drop_nulls().to_numpy())
    values = {name: median.value() for name, median in medians.items()}
    return {name: 0.0 if np.isnan(value) else value for name, value in values.items()}


def _most_frequent(cleaned: Cleaned, fates: Fates, names: list[str]) -> Fills:
    counts: dict[str, Counter[float]] = {name: Counter() for name in names}
    for frame in _train(cleaned, fates, names):
        for name, count in counts.items():
            count.update(dict(frame[name].drop_nulls().value_counts(name="\0count").iter_rows()))
            if len(count) > MAX_VALUES:
                raise InvalidInput(
                    f"column {name[:80]!r} has over {MAX_VALUES} different values: none is the most frequent one",
                    field="clean",
                    accepted="drop, mean, median, constant",
                )
    fills: Fills = {}
    for name, count in counts.items():
        words = None if name in cleaned.numeric else cleaned.profiles.dictionary(name).values()
        named = {words[int(code)] if words else code: times for code, times in count.items()}
        fills[name] = min(named, key=lambda value: (-named[value], value), default=0.0)
    return fills


LEARN: dict[str, Callable[[Cleaned, Fates, list[str]], Fills]] = {
    "mean": _means,
    "median": _medians,
    "most-frequent": _most_frequent,
}
