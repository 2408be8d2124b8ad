"""The last pass over a table: outliers brought nearer, gaps filled, categories to columns, all to Float32."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from sextant_data_prep import learning
from sextant_data_prep.domain.samples import RESERVED
from sextant_data_prep.learning import Training

OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Encoded:
    """How a feature is made of the staged columns, the column that it comes from, and what it says of this.

    A `number` is that of the column, a `category` is 1 where the column has it, and a `flag` where something is so.
    """

    made: pl.Expr
    column: str
    kind: Literal["number", "category", "flag"]

    def plain(self) -> dict[str, Any]:
        """As the description says it."""
        return {"column": self.column, "kind": self.kind}


def features(training: Training) -> dict[str, Encoded]:
    """By name; those of one column stand together."""
    made: dict[str, Encoded] = {}
    found = learning.fills(training)
    cleaned = training.cleaned
    for name, profile in cleaned.profiles.columns.items():
        if not profile.present:
            continue
        if name in cleaned.numeric:
            value = training.value(name)
            filled = value.fill_null(found[name]) if name in found else value
            made[_free(name, made)] = Encoded(filled.cast(pl.Float32), name, "number")
        else:
            _add_categories(training, name, str(found.get(name, "")), made)
        step = cleaned.profiles.rules.missing(name)
        if step and step.flag:
            flag = pl.col(name).is_null().cast(pl.Float32)
            made[_free(f"{name}=missing", made)] = Encoded(flag, name, "flag")
    return made


def _add_categories(training: Training, name: str, fill: str, made: dict[str, Encoded]) -> None:
    profiles = training.cleaned.profiles
    values, others = profiles.categories(name)
    if fill and fill not in values and not others:
        values = sorted([*values, fill])
    codes, column = profiles.dictionary(name).codes, pl.col(name)
    for value in values:
        is_it = column == codes[value] if value in codes else column.is_null()
        known = is_it.fill_null(value == fill).cast(pl.Float32)
        made[_free(f"{name}={value}", made)] = Encoded(known, name, "category")
    if others:
        is_other = ~column.is_in([codes[value] for value in values if value in codes])
        unknown = is_other.fill_null(fill not in values).cast(pl.Float32)
        made[_free(f"{name}={OTHER}", made)] = Encoded(unknown, name, "category")


def _free(name: str, taken: Container[str]) -> str:
    """The name, or, where a feature or the files have it already, the name with underscores behind it."""
    while name in taken or name in RESERVED:
        name += "_"
    return name
