"""The last pass over a table: outliers brought nearer, gaps filled, categories to columns, all to Float32."""

from __future__ import annotations

from collections.abc import Container

import polars as pl

from sextant_data_prep import learning
from sextant_data_prep.domain.samples import RESERVED
from sextant_data_prep.learning import Training

OTHER = "(other)"


def features(training: Training) -> dict[str, pl.Expr]:
    """By the feature's name how it is made of the staged columns."""
    made: dict[str, pl.Expr] = {}
    found = learning.fills(training)
    cleaned = training.cleaned
    for name, profile in cleaned.profiles.columns.items():
        if not profile.present:
            continue
        if name in cleaned.numeric:
            value = training.value(name)
            filled = value.fill_null(found[name]) if name in found else value
            made[_free(name, made)] = filled.cast(pl.Float32)
        else:
            _add_categories(training, name, str(found.get(name, "")), made)
        step = cleaned.profiles.rules.missing(name)
        if step and step.flag:
            made[_free(f"{name}=missing", made)] = pl.col(name).is_null().cast(pl.Float32)
    return {name: expression.alias(name) for name, expression in made.items()}


def _add_categories(training: Training, name: str, fill: str, made: dict[str, pl.Expr]) -> None:
    profiles = training.cleaned.profiles
    values, others = profiles.categories(name)
    if fill and fill not in values and not others:
        values = sorted([*values, fill])
    codes, column = profiles.dictionary(name).codes, pl.col(name)
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
