"""Times as texts or numbers, brought to microseconds, and what may be wrong with a column of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_data_prep.domain.assigning import TEST, TRAIN, VAL
from sextant_shared.errors import InvalidInput

FORMATS = ("%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M")
ZONE = r"(?i)\d(?:Z|[+-]\d{2}:?\d{2})$"
ACCEPTED = "ISO 8601, such as 2026-11-25T18:00:00+01:00 or 2026-11-25, or numbers"


@dataclass(slots=True)
class Zones:
    """Whether times have a zone or an offset: all of them, or none."""

    zoned: int = 0
    naive: int = 0

    def add(self, texts: pl.Series) -> None:
        """Look at texts. Raises InvalidInput where some have a zone and others none: their order is not known."""
        zoned = int(texts.str.contains(ZONE).sum())
        self.merge(zoned, texts.count() - zoned)

    def merge(self, zoned: int, naive: int) -> None:
        """Take in times with and without a zone; likewise."""
        self.zoned, self.naive = self.zoned + zoned, self.naive + naive
        if self.zoned and self.naive:
            raise InvalidInput(
                "some times have a zone and others none: their order is not known",
                field="split.time",
                accepted="an offset such as +00:00 behind all of them, or behind none",
            )


def microseconds(name: str) -> pl.Expr:
    """A column of texts as whole numbers that have the order of the times; null where it is none."""
    text = pl.col(name).str.strip_chars()
    plain = text.str.replace(r"(?i)Z$", "+00:00")
    zoned = [plain.str.to_datetime(form + "%z", strict=False, time_unit="us", time_zone="UTC") for form in FORMATS]
    naive = [text.str.to_datetime(form, strict=False, time_unit="us") for form in FORMATS]
    day = text.str.to_date("%Y-%m-%d", strict=False).cast(pl.Datetime("us"))
    found = [moment.to_physical() for moment in (*zoned, *naive, day)]
    number = text.cast(pl.Float64, strict=False)
    return pl.coalesce(*found, pl.when(number.is_finite()).then((number * 1e6).round()).cast(pl.Int64, strict=False))


def by_time(times: NDArray[np.int64], val: float, test: float) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The split of each row: the first ones train, then validation, and the last ones test; equal times go together.

    With the splits come the first times of validation and test, and how many rows stand before an earlier one.
    """
    held, last = round(len(times) * val), round(len(times) * test)
    order = np.sort(times)
    from_val, from_test = (int(order[max(0, len(order) - n)]) if n else int(order[-1]) + 1 for n in (held + last, last))
    splits = np.full(len(times), TRAIN, np.uint8)
    splits[times >= from_val] = VAL
    splits[times >= from_test] = TEST
    out_of_order = int(np.count_nonzero(times[1:] < times[:-1]))
    return splits, {"validation_from_us": from_val, "test_from_us": from_test, "out_of_order": out_of_order}
