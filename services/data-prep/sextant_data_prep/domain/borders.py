"""Where the splits of a series begin and end, and how many windows each has."""

from __future__ import annotations

from dataclasses import dataclass

from sextant_data_prep.domain.splitting import SPLITS
from sextant_shared.contracts.specs import Split, Window
from sextant_shared.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Span:
    """The rows [begin, end) of a split: each of its windows has all that it forecasts there."""

    begin: int
    end: int
    windows: int

    def plain(self) -> dict[str, int]:
        """As the description has it."""
        return {"rows": self.end - self.begin, "begin": self.begin, "end": self.end, "windows": self.windows}


def spans(rows: int, split: Split, window: Window) -> dict[str, Span]:
    """The splits one after the other: of the sizes that are given, or by shares.

    Raises InvalidInput where there are fewer rows, or a split has no room for one window.
    """
    sizes = split.rows
    if sizes is None:
        val, test = round(rows * split.val), round(rows * split.test)
        sizes = [rows - val - test, val, test]
    elif sum(sizes) > rows:
        raise InvalidInput(f"{sum(sizes)} rows are asked for, and there are {rows}", field="split.rows")
    found: dict[str, Span] = {}
    begin = 0
    for name, size in zip(SPLITS, sizes, strict=True):
        end = begin + size
        # What is seen may lie in the split before, but for training, which has none.
        seen = 0 if begin >= window.input else window.input - begin
        windows = size - seen - window.horizon + 1
        if windows < 1:
            given = f"the split {name!r} has {size} rows, and a window takes {seen + window.horizon} of them"
            raise InvalidInput(given, field="window", accepted="shorter windows, or more rows")
        found[name] = Span(begin, end, windows)
        begin = end
    return found
