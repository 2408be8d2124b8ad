"""What the columns of a table are: numbers or categories, as declared or as their values show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import polars as pl

from sextant_data_prep.domain.dictionary import MAX_VALUES, Dictionary
from sextant_shared.contracts.cleaning import Bounds, Categories, Missing, Outliers, Step, Types
from sextant_shared.errors import InvalidInput

NUMERIC_SHARE = 0.9
"""A column is numeric where at least this share of its values are numbers; the others are then bad rows."""
MAX_CATEGORIES = 64
S = TypeVar("S", Missing, Categories, Outliers)


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
        return self._for(Missing, column)

    def categories(self, column: str) -> Categories | None:
        """The step for a column's categories, likewise."""
        return self._for(Categories, column)

    def outliers(self, column: str) -> Outliers | None:
        """The step for a column's outliers, likewise."""
        return self._for(Outliers, column)

    def _for(self, kind: type[S], column: str) -> S | None:
        steps: list[S] = [step for step in self.steps if isinstance(step, kind)]
        named = (step for step in steps if step.columns is not None and column in step.columns)
        return next(named, None) or next((step for step in steps if step.columns is None), None)

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
            if isinstance(step, Types | Missing | Categories | Outliers):
                found |= set(step.columns or ())
        return found


@dataclass(slots=True)
class Profile:
    """What is known of a column's values."""

    present: int = 0
    numbers: int = 0
    dictionary: Dictionary | None = None
    """Of a column that was read as words."""


class Profiles:
    """The profiles of all columns, filled frame by frame."""

    def __init__(self, rules: Rules) -> None:
        """`rules` as the spec has them."""
        self.rules = rules
        self.rows = 0
        self.columns: dict[str, Profile] = {}

    def add(self, frame: pl.DataFrame, rows: int) -> pl.DataFrame:
        """Look at the columns of a frame: texts, or numbers where NaN stands for what is none.

        The frame with the codes of words in their place. A frame without columns does not know its `rows`.
        """
        self.rows += rows
        if not frame.columns:
            return frame
        words = [name for name, dtype in frame.schema.items() if dtype == pl.String]
        counts = frame.select(pl.all().count()).row(0)
        numbers = dict(
            zip(frame.columns, frame.select(_numbers(*pair) for pair in frame.schema.items()).row(0), strict=True)
        )
        for name, present in zip(frame.columns, counts, strict=True):
            profile = self.columns.setdefault(name, Profile())
            profile.present += present
            profile.numbers += numbers[name]
            if name in words and profile.dictionary is None:
                profile.dictionary = Dictionary()
        return frame.with_columns(self.dictionary(name).encode(frame[name]) for name in words)

    def dictionary(self, name: str) -> Dictionary:
        """The dictionary of a column of words."""
        return self.columns[name].dictionary or Dictionary()

    def dictionaries(self) -> dict[str, Dictionary]:
        """All dictionaries by column."""
        return {name: profile.dictionary for name, profile in self.columns.items() if profile.dictionary}

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
        dictionary = self.dictionary(name)
        if dictionary.more:
            raise _too_many(name, MAX_VALUES if step and step.rare == "other" else most)
        counts = Counter(dict(zip(dictionary.values(), dictionary.counts.tolist(), strict=True)))
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
    return number.is_not_nan().sum().alias(name)


def _too_many(name: str, most: int) -> InvalidInput:
    accepted = "numbers, fewer categories, or a step for the column: {do: categories} or {do: types}"
    return InvalidInput(f"column {name[:80]!r} has over {most} categories", field="source", accepted=accepted)
