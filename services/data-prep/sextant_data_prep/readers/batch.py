"""What every reader of rows delivers: a frame of some thousand rows, and the rows that could not be read."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl

from sextant_data_prep.domain.texts import fault
from sextant_shared.errors import InvalidInput

MAX_COLUMNS = 10_000
ROW = "\0row"
"""The column of row numbers. No column of a file is called so: it would hold NUL."""

FILE_SPLIT = "\0file split"
"""The column of the split that a file's name or folder says."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Columns of text (missing values are null), those that were asked for as numbers in Float32, and ROW in Int64.

    Where a number was asked for, NaN stands for a value that is none.
    """

    frame: pl.DataFrame
    bad: list[tuple[int, str]] = field(default_factory=list)
    through: int = 0
    """The number of the last line or row that was looked at, blank lines included."""


class Reader(Protocol):
    """Opens a source anew each time it is called. `numeric` columns are read as numbers, `nulls` as missing values."""

    def __call__(self, numeric: Collection[str] = (), nulls: Collection[str] = ()) -> Iterator[Batch]:
        """The batches, in the order of the rows. An empty one may come first, with the names of all columns."""
        ...


def check(names: Collection[str]) -> None:
    """Raise InvalidInput for more columns than are accepted, and for a name that cannot be one."""
    if len(names) > MAX_COLUMNS:
        given = f"{len(names)} columns; at most {MAX_COLUMNS} are accepted"
        raise InvalidInput(given, field="source", accepted=f"{MAX_COLUMNS} columns")
    for name in names:
        # polars takes these for patterns, even where a column is asked for its own values.
        is_pattern = name == "*" or (name.startswith("^") and name.endswith("$"))
        if why := "is a pattern" if is_pattern else fault(name):
            raise InvalidInput(f"the name of column {name[:80]!r} {why}", field="source", accepted="plain names")


def typed(frame: pl.DataFrame, numeric: Collection[str], nulls: Collection[str]) -> pl.DataFrame:
    """The frame with texts in place of values, and numbers in `numeric` columns; empty texts are missing values too."""
    return frame.select(
        pl.col(ROW).cast(pl.Int64)
        if name == ROW
        else _number(name, dtype, nulls)
        if name in numeric
        else _text(name, dtype, nulls)
        for name, dtype in frame.schema.items()
    )


def _number(name: str, dtype: pl.DataType, nulls: Collection[str]) -> pl.Expr:
    column = pl.col(name)
    if dtype == pl.Boolean:
        # `true` is a word; a column of words is not one of numbers.
        return pl.when(column.is_not_null()).then(float("nan")).cast(pl.Float32).alias(name)
    if dtype != pl.String:
        return column.cast(pl.Float32)
    number = column.str.strip_chars().cast(pl.Float32, strict=False)
    missing = column.is_null() | column.is_in(["", *nulls])
    return pl.when(missing).then(None).otherwise(number.fill_null(float("nan"))).cast(pl.Float32).alias(name)


def _text(name: str, dtype: pl.DataType, nulls: Collection[str]) -> pl.Expr:
    column = pl.col(name)
    if dtype.is_float():
        # 1 and 1.0 are the same number, and one text: which stands there must not depend on the rows beside it.
        column = column.cast(pl.String).str.strip_suffix(".0")
    elif dtype != pl.String:
        column = column.cast(pl.String)
    given = ~column.is_in(["", *nulls]) if nulls else column != ""
    return pl.when(given).then(column).alias(name)
