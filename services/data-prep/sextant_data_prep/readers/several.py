"""Several tables as one: with the same columns, read in turn, their rows numbered on from file to file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import polars as pl

from sextant_data_prep.readers.batch import FILE_SPLIT, ROW, Batch, Reader
from sextant_shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Part:
    """One of the tables."""

    name: str
    read: Reader
    split: str | None
    """What its name says, where the names of all say one."""


class Several:
    """A reader of all parts."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """`parts` in the order in which they are to be read."""
        self._parts = parts
        self.before: dict[str, int] = {}
        """For each part that was read the number that comes before its first row."""

    def __call__(self, numeric: Collection[str] = (), nulls: Collection[str] = ()) -> Iterator[Batch]:
        """The batches. Raises InvalidInput that names the part, also where its columns are not those of the first."""
        last, columns = 0, frozenset[str]()
        for part in self._parts:
            self.before[part.name] = before = last
            try:
                for batch in part.read(numeric, nulls):
                    names = frozenset(batch.frame.columns) - {ROW}
                    if batch.frame.is_empty() and names:
                        columns = columns or names
                        self._same(part, names, columns)
                    moved = _moved(batch, before)
                    last = max(last, int(moved.frame[ROW].to_numpy().max(initial=0)), *(row for row, _ in moved.bad))
                    if part.split is not None:
                        moved = replace(moved, frame=moved.frame.with_columns(pl.lit(part.split).alias(FILE_SPLIT)))
                    yield moved
            except InvalidInput as error:
                raise of_table(part.name, error) from None

    def _same(self, part: Part, names: frozenset[str], columns: frozenset[str]) -> None:
        if names != columns:
            raise unlike("it", self._parts[0].name, sorted(names ^ columns))


def of_table(name: str, error: InvalidInput) -> InvalidInput:
    """The error, with the table that it is of."""
    return InvalidInput(f"{name[:80]}: {error.message}", field=error.field, accepted=error.accepted)


def unlike(one: str, other: str, columns: list[str]) -> InvalidInput:
    """The error of two tables of which one alone has these columns."""
    named = ", ".join(repr(name[:80]) for name in columns[:5])
    return InvalidInput(
        f"{one[:80]} and {other[:80]} do not have the same columns: {named}",
        field="source",
        accepted="tables with the same columns, or upload://ID/PATH for one of them",
    )


def _moved(batch: Batch, by: int) -> Batch:
    bad = [(row + by, reason) for row, reason in batch.bad]
    return Batch(batch.frame.with_columns(pl.col(ROW) + by), bad, batch.through + by)
