"""What the columns of a table are: numbers or categories, as declared or as their values show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from sextant_shared.contracts.cleaning import Bounds, Categories, Missing, Step, Types
from sextant_shared.errors import InvalidInput

NUMERIC_SHARE = 0.9
"""A column is numeric where at least this share of its values are numbers; the others are then bad rows."""
MAX_CATEGORIES = 64
MAX_COUNTED = 100_000
"""Different values that are counted of a column whose rare ones are brought together."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The steps that say what becomes of columns, asked column by column."""

    steps: Sequence[Step] = ()

    def declared(self, column: str) -> str | None:
        """The type that a `types` step gives a column; the last one counts."""
        found = [step.columns[column] for step in self.steps if isinstance(step, Types) and column in step.columns]
        return found[-1] if found else None

    def missing(self, column: str) -> Missing | None:
        """The step for a column's missing values: one that names it before one for all."""
        steps = [step for step in self.steps if isinstance(step, Missing)]
        named = [step for step in steps if step.columns is not None and column in step.columns]
        return next(iter([*named, *(step for step in steps if step.columns is None)]), None)

    def categories(self, column: str) -> Categories | None:
        """The step for a column's categories, likewise."""
        steps = [step for step in self.steps if isinstance(step, Categories)]
        named = [step for step in steps if step.columns is not None and column in step.columns]
        return next(iter([*named, *(step for step in steps if step.columns is None)]), None)

    @property
    def nulls(self) -> list[str]:
        """Texts that mean "missing"."""
        return sorted({text for step in self.steps if isinstance(step, Missing) for text in step.also})

    @property
    def bounds(self) -> list[Bounds]:
        """The steps that leave out rows by a column's value."""
        return [step for step in self.steps if isinstance(step, Bounds)]

    def named(self) -> set[str]:
        """All columns that a step names."""
        found = {step.column for step in self.bounds}
        for step in self.steps:
            if isinstance(step, Types | Missing | Categories):
                found |= set(step.columns or ())
        return found


@dataclass(slots=True)
class Profile:
    """What is known of a column's values."""

    present: int = 0
    numbers: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    more: bool = False
    """There are more different values than were counted."""


class Profiles:
    """The profiles of all columns, filled frame by frame."""

    def __init__(self, rules: Rules) -> None:
        """`rules` as the spec has them."""
        self.rules = rules
        self.rows = 0
        self.columns: dict[str, Profile] = {}

    def add(self, frame: pl.DataFrame) -> None:
        """Look at the columns of a frame: texts, or numbers where NaN stands for what is none."""
        self.rows += len(frame)
        kinds = frame.schema
        asked = [pl.col(name).count().alias(f"{name}\0present") for name in kinds]
        asked += [_numbers(name, dtype).alias(f"{name}\0numbers") for name, dtype in kinds.items()]
        found = frame.select(asked).row(0, named=True)
        for name, dtype in kinds.items():
            profile = self.columns.setdefault(name, Profile())
            profile.present += found[f"{name}\0present"]
            profile.numbers += found[f"{name}\0numbers"]
            if dtype == pl.String and not profile.more:
                self._count(name, profile, frame[name])

    def _count(self, name: str, profile: Profile, values: pl.Series) -> None:
        step = self.rules.categories(name)
        most = MAX_CATEGORIES if step is None else MAX_COUNTED if step.rare == "other" else step.max
        found = values.drop_nulls().value_counts()
        if len(found) <= most:
            profile.counts.update(dict(found.iter_rows()))
        profile.more = len(found) > most or len(profile.counts) > most

    def numeric(self) -> frozenset[str]:
        """The columns that are read as numbers."""
        return frozenset(name for name, profile in self.columns.items() if self._is_numeric(name, profile))

    def _is_numeric(self, name: str, profile: Profile) -> bool:
        declared = self.rules.declared(name)
        if declared:
            return declared == "number"
        # Where nothing is said of missing values, they count as values that are no numbers.
        values = self.rows if self.rules.missing(name) is None else profile.present
        return profile.present > 0 and profile.numbers >= NUMERIC_SHARE * values

    def categories(self, name: str) -> tuple[list[str], bool]:
        """The categories of a column, and whether there are others beside these, which go together as one.

        A missing value is a category, the empty one, where no step says otherwise. Raises InvalidInput for too many.
        """
        profile, step = self.columns[name], self.rules.categories(name)
        most = step.max if step else MAX_CATEGORIES
        limit = MAX_COUNTED if step and step.rare == "other" else most
        if profile.more:
            raise _too_many(name, limit)
        counts = Counter(profile.counts)
        if profile.present < self.rows and self.rules.missing(name) is None:
            counts[""] = self.rows - profile.present
        if len(counts) <= most:
            return sorted(counts), False
        if step is None or step.rare == "refuse":
            raise _too_many(name, most)
        ranked = sorted(counts, key=lambda value: (-counts[value], value))
        return sorted(ranked[: most - 1]), True


def _numbers(name: str, dtype: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    number = column.str.strip_chars().cast(pl.Float32, strict=False) if dtype == pl.String else column
    return number.is_not_nan().sum()


def _too_many(name: str, most: int) -> InvalidInput:
    accepted = "numbers, fewer categories, or a step for the column: {do: categories} or {do: types}"
    return InvalidInput(f"column {name[:80]!r} has over {most} categories", field="source", accepted=accepted)
