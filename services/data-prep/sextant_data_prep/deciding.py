"""Between the passes: what becomes of each staged row, from the keys alone. A byte a row is all that memory holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_data_prep.buckets import Entries
from sextant_data_prep.domain import times
from sextant_data_prep.domain.assigning import (
    ALIKE,
    CONTRADICTION,
    DUPLICATE,
    TEST,
    TRAIN,
    VAL,
    Shares,
    group_starts,
    repeated,
)
from sextant_data_prep.domain.splitting import SPLITS
from sextant_data_prep.merging import Cleaned
from sextant_data_prep.pieces import SPLIT, TIME
from sextant_data_prep.readers.batch import ROW
from sextant_shared.contracts.cleaning import Deduplicate
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput

Fates = NDArray[np.uint8]
UNDECIDED = 255


@dataclass(frozen=True, slots=True)
class Decision:
    """For each staged row a split or why it is left out (see `domain.assigning`); how many rows stood there before."""

    fates: Fates
    duplicates: int
    totals: NDArray[np.int64]
    """Rows of each class that are left."""
    time: dict[str, Any] | None = None
    """Where rows are split by time: between which times, and whether they were in order."""


def decide(spec: PrepareSpec, cleaned: Cleaned, places: NDArray[np.int64]) -> Decision:
    """The fate of all rows. `places` are the classes of the label codes.

    Raises InvalidInput where rows that belong together would stand in two splits, or a split stays empty.
    """
    fates = np.full(cleaned.staging.rows, UNDECIDED, np.uint8)
    leave_out = any(isinstance(step, Deduplicate) for step in spec.clean)
    duplicates, labels = _deduplicate(cleaned, fates, leave_out, len(places))
    if cleaned.alike:
        cleaned.alike.mark(fates, cleaned.content)
        labels = np.zeros_like(labels)
        for entries in _left(cleaned.content.parts(), fates):
            labels += np.bincount(entries["label"], minlength=len(labels))
    totals = np.zeros_like(labels)
    totals[places] = labels
    time = None
    if cleaned.roles.time:
        time = _by_time(spec, cleaned, fates)
    elif cleaned.roles.split:
        _as_given(cleaned, fates)
        _hold_out(spec, cleaned, fates, places)
    else:
        _by_shares(spec, cleaned, fates, Shares.of(totals, spec.split.val, spec.split.test), places)
    _check_leaks(cleaned, fates)
    found = [int(np.count_nonzero(fates == number)) for number in range(len(SPLITS))]
    for number, split in enumerate(SPLITS):
        if not found[number]:
            rows = sum(found)
            few = "have too few different times" if cleaned.roles.time else "are too few"
            given = f"{rows} rows {few} for three splits"
            if cleaned.roles.split:
                given = f"no row is in the split {split!r}"
            raise InvalidInput(given, field="split", accepted="more rows")
    return Decision(fates, duplicates, totals, time)


def _deduplicate(cleaned: Cleaned, fates: Fates, leave_out: bool, labels: int) -> tuple[int, NDArray[np.int64]]:
    """How many rows stood there before, and how many rows of each label code are left."""
    count, left = 0, np.zeros(labels, np.int64)
    for entries in cleaned.content.parts():
        again, contradicts = repeated(entries["key"], entries["label"])
        count += int(again.sum())
        if leave_out:
            fates[entries["row"][again]] = DUPLICATE
            fates[entries["row"][contradicts]] = CONTRADICTION
        left += np.bincount(entries["label"][~again] if leave_out else entries["label"], minlength=labels)
    return count, left


def _left(parts: Iterator[Entries], fates: Fates) -> Iterator[Entries]:
    """The entries of rows that are not left out."""
    for entries in parts:
        fate = fates[entries["row"]]
        out = (fate > TEST) & (fate != UNDECIDED)
        yield entries[~out] if out.any() else entries


def _by_shares(spec: PrepareSpec, cleaned: Cleaned, fates: Fates, shares: Shares, places: NDArray[np.int64]) -> None:
    for entries in _left((cleaned.groups or cleaned.content).parts(), fates):
        fates[entries["row"]] = shares.assign(entries["key"], places[entries["label"]])


def _as_given(cleaned: Cleaned, fates: Fates) -> None:
    for first, frame in cleaned.staging.parts():
        part = fates[first : first + len(frame)]
        np.copyto(part, frame[SPLIT].to_numpy(), where=part == UNDECIDED)


def _hold_out(spec: PrepareSpec, cleaned: Cleaned, fates: Fates, places: NDArray[np.int64]) -> None:
    """Where no row is given to validation: its share of the training rows, as a model could not be chosen without."""
    if (fates == VAL).any():
        return
    totals = np.zeros(len(places), np.int64)
    for entries in cleaned.content.parts():
        train = fates[entries["row"]] == TRAIN
        totals += np.bincount(places[entries["label"][train]], minlength=len(totals))
    shares = Shares.of(totals, spec.split.val, 0.0)
    for part in (cleaned.groups or cleaned.content).parts():
        entries = part[fates[part["row"]] == TRAIN]
        fates[entries["row"]] = shares.assign(entries["key"], places[entries["label"]])


def _by_time(spec: PrepareSpec, cleaned: Cleaned, fates: Fates) -> dict[str, Any]:
    """By time alone. The same content at two times is no leak: a sensor may say the same twice."""
    moments = np.concatenate([np.empty(0, np.int64), *(frame[TIME].to_numpy() for _, frame in cleaned.staging.parts())])
    left = (fates <= TEST) | (fates == UNDECIDED)
    if not left.any():
        return {}
    moments = moments[left]
    fates[left], found = times.by_time(moments, spec.split.val, spec.split.test)
    return found


def _check_leaks(cleaned: Cleaned, fates: Fates) -> None:
    """Refuse rows with the same content, or of the same group, in two splits. Shares by content cannot make any."""
    if cleaned.roles.split or cleaned.groups:
        accepted = "each row in one split alone; add the step {do: deduplicate} to keep the first of them"
        _check(cleaned, cleaned.content.parts(), fates, "rows stand in two splits", accepted)
    if cleaned.roles.split and cleaned.groups:
        accepted = "all rows of a group in one split"
        named = f"groups of {(cleaned.roles.group or '')[:80]!r} stand in two splits"
        _check(cleaned, cleaned.groups.parts(), fates, named, accepted)


def _check(cleaned: Cleaned, parts: Iterator[Entries], fates: Fates, what: str, accepted: str) -> None:
    leaks, example = 0, (0, 0)
    for entries in _left(parts, fates):
        starts = group_starts(entries["key"])
        fate = fates[entries["row"]]
        sizes = np.diff(starts, append=len(entries))
        strays = np.flatnonzero(fate != np.repeat(fate[starts], sizes))
        if strays.size:
            of_group = np.searchsorted(starts, strays, side="right") - 1
            leaks += np.unique(of_group).size
            example = (int(entries["row"][starts[of_group[0]]]), int(entries["row"][strays[0]]))
    if leaks:
        one, other = _sources(cleaned, example)
        raise InvalidInput(
            f"leak: {leaks} {what}, for example source rows {one} and {other}", field="split", accepted=accepted
        )


def _sources(cleaned: Cleaned, rows: tuple[int, int]) -> list[int]:
    """The row numbers in the source of two staged rows."""
    found: dict[int, int] = {}
    for first, frame in cleaned.staging.parts():
        found |= {row: frame[ROW][row - first] for row in rows if first <= row < first + len(frame)}
    return [found[row] for row in rows]


REASONS = {
    DUPLICATE: "stood there before",
    CONTRADICTION: "stood there before, with another label",
    ALIKE: "is nearly the same as a text before",
}


def left_out(cleaned: Cleaned, fates: Fates) -> Iterator[pl.DataFrame]:
    """The rows that are left out as doubles, as columns `row` and `reason`."""
    for first, frame in cleaned.staging.parts():
        fate = fates[first : first + len(frame)]
        out = np.flatnonzero(fate > TEST)
        if out.size:
            reasons = pl.Series(fate[out]).replace_strict(REASONS, return_dtype=pl.String)
            yield pl.DataFrame({"row": frame[ROW].gather(out), "reason": reasons})
