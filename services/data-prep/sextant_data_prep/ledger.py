"""What happened to which row: bad ones and those that a step left out, on disk; in memory only the counts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from pydantic import BaseModel

from sextant_data_prep.domain import quarantine

BAD, REMOVED = "quarantine.jsonl", "removed.jsonl"
LINE = {"row": pl.Int64, "reason": pl.String}
SCHEMAS = {BAD: LINE, REMOVED: {**LINE, "step": pl.String}}


class Counts(BaseModel):
    """How many rows were read, were bad, were left out, and were changed: the last three by reason or step."""

    read: int
    reasons: dict[str, int]
    removed: dict[str, int]
    changed: dict[str, int]


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

    def sort(self) -> None:
        """Bring what was noted into the order of the rows: that of noting shows where blocks of rows ended."""
        for name, schema in SCHEMAS.items():
            noted = self._directory / name
            if noted.exists():
                pl.read_ndjson(noted, schema=schema).sort("row", maintain_order=True).write_ndjson(noted)

    def absorb(self, directory: Path, other: Counts, by: int) -> None:
        """Take in what the ledger below another directory noted, its rows numbered `by` more."""
        self.read += other.read
        self.reasons.update(other.reasons)
        self.removed.update(other.removed)
        self.changed.update(other.changed)
        for name, schema in SCHEMAS.items():
            noted = directory / name
            if not noted.exists():
                continue
            with (self._directory / name).open("ab") as out, noted.open("rb") as lines:
                if by:
                    pl.read_ndjson(lines, schema=schema).with_columns(pl.col("row") + by).write_ndjson(out)
                else:
                    shutil.copyfileobj(lines, out)

    def counts(self) -> Counts:
        """How many there are of each."""
        return Counts(read=self.read, reasons=self.reasons, removed=self.removed, changed=self.changed)

    def check(self, max_bad_share: float) -> None:
        """Raise InvalidInput where too many rows were bad, or none are left."""
        quarantine.check(self.reasons, self.read, max_bad_share)

    def _write(self, name: str, frame: pl.DataFrame, counts: Counter[str]) -> None:
        if frame.is_empty():
            return
        counts.update(dict(frame["reason"].value_counts().iter_rows()))
        with (self._directory / name).open("ab") as out:
            frame.write_ndjson(out)
