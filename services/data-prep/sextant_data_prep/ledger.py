"""What happened to which row: bad ones and those that a step left out, on disk; in memory only the counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from sextant_data_prep.domain import quarantine

BAD, REMOVED = "quarantine.jsonl", "removed.jsonl"


class Ledger:
    """Rows are known by their number in the source."""

    def __init__(self, directory: Path) -> None:
        """Files are made when there is something to write."""
        self._directory = directory
        self.restart()

    def restart(self) -> None:
        """Forget all."""
        self.read = 0
        self.reasons: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        for name in (BAD, REMOVED):
            (self._directory / name).unlink(missing_ok=True)

    def bad(self, rows: Sequence[tuple[int, str]]) -> None:
        """Rows that could not be read."""
        frame = pl.DataFrame(rows, {"row": pl.Int64, "reason": pl.String}, orient="row")
        self._write(BAD, frame, self.reasons)

    def screen(self, frame: pl.DataFrame, row: str, reasons: pl.Series, step: str | None = None) -> pl.DataFrame:
        """The rows of a frame without a reason; the others are noted, as left out by the `step` or else as bad."""
        if reasons.null_count() == len(frame):
            return frame
        given = reasons.is_not_null()
        out = pl.DataFrame({"row": frame[row].filter(given), "reason": reasons.filter(given)})
        self.note(out, step)
        return frame.filter(~given)

    def note(self, out: pl.DataFrame, step: str | None = None) -> None:
        """Rows that are left out, as columns `row` and `reason`."""
        if step is None:
            self._write(BAD, out, self.reasons)
        else:
            self._write(REMOVED, out.with_columns(pl.lit(step).alias("step")), Counter())
            self.removed[step] += len(out)

    def check(self, max_bad_share: float) -> None:
        """Raise InvalidInput where too many rows were bad, or none are left."""
        quarantine.check(self.reasons, self.read, max_bad_share)

    def _write(self, name: str, frame: pl.DataFrame, counts: Counter[str]) -> None:
        if frame.is_empty():
            return
        counts.update(dict(frame["reason"].value_counts().iter_rows()))
        with (self._directory / name).open("ab") as out:
            frame.write_ndjson(out)
