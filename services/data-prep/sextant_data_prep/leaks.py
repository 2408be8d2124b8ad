"""Columns that give the target away: copies of it, and those of which each value goes with one class alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from sextant_data_prep.deciding import Fates
from sextant_data_prep.domain.assigning import TRAIN
from sextant_data_prep.merging import Cleaned
from sextant_data_prep.staging import LABEL
from sextant_shared.contracts.cleaning import Leakage, Step
from sextant_shared.errors import InvalidInput

MAX_VALUES = 1000
ROWS_PER_VALUE = 10
"""With fewer rows a value, that each goes with one class says little: row numbers do that."""


@dataclass(slots=True)
class _Seen:
    """The class that goes with each value of a column, as long as there is one."""

    label_of: dict[float | str | None, int] = field(default_factory=dict)
    open: bool = True

    def add(self, pairs: pl.DataFrame) -> None:
        for value, label in pairs.iter_rows():
            if self.label_of.setdefault(value, label) != label or len(self.label_of) > MAX_VALUES:
                self.open = False
                return

    def verdict(self, rows: int) -> str | None:
        values, labels = len(self.label_of), len(set(self.label_of.values()))
        if not self.open or labels < 2 or rows < ROWS_PER_VALUE * values:
            return None
        return "is the target under other names" if values == labels else "determines the target"


def find(steps: list[Step], cleaned: Cleaned, fates: Fates) -> list[dict[str, str]] | None:
    """The columns that give the target away in the training split; None where no step asks for them.

    Raises InvalidInput where there are some and the step says so.
    """
    step = next((step for step in steps if isinstance(step, Leakage)), None)
    if step is None:
        return None
    seen = {name: _Seen() for name, profile in cleaned.profiles.columns.items() if profile.present}
    rows = 0
    for first, frame in cleaned.staging.parts():
        train = frame.filter(pl.Series(fates[first : first + len(frame)] == TRAIN))
        rows += len(train)
        for name, one in seen.items():
            if one.open:
                one.add(train.select(name, LABEL).unique().head(MAX_VALUES * 2))
    verdicts = {name: one.verdict(rows) for name, one in seen.items()}
    found = [{"column": name, "reason": reason} for name, reason in verdicts.items() if reason]
    if found and step.action == "refuse":
        named = "; ".join(f"{leak['column'][:80]!r} {leak['reason']}" for leak in found[:5])
        accepted = "a step {do: types, columns: {NAME: ignore}}, or {do: leakage, action: flag}"
        raise InvalidInput(f"{len(found)} columns give the target away: {named}", field="clean", accepted=accepted)
    return found
