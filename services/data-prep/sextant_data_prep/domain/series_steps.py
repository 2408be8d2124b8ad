"""What the cleaning steps of series do: order, resampling, gaps, outliers. Nothing is learnt from later splits.

A frame has a column of microseconds, `TIME`, columns of values, and may have one of labels, which are 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_shared.contracts.cleaning import Fill, Order, Outliers, Resample
from sextant_shared.errors import InvalidInput

TIME = "\0time"
UNITS = {"s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
MOST_ROWS = 50_000_000
Values = NDArray[np.float64]


def length_of(every: str) -> int:
    """A text such as 15m in microseconds."""
    return int(every[:-1]) * UNITS[every[-1]]


def to_utc(zone: str) -> pl.Expr:
    """The moments of times that were said by the clocks of a zone; null where these clocks never showed it.

    Of an hour that is shown twice the first is meant.
    """
    local = pl.col(TIME).cast(pl.Datetime("us")).dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")
    return local.dt.convert_time_zone("UTC").to_physical().alias(TIME)


def check_order(step: Order, moments: NDArray[np.int64]) -> None:
    """`moments` are as in the source. Raises InvalidInput where more are out of order, or irregular, than accepted."""
    wrong = np.flatnonzero(moments[1:] < moments[:-1])
    if len(wrong) > step.out_of_order:
        given = f"{len(wrong)} rows stand before an earlier one, the first is {said(int(moments[wrong[0]]))}"
        raise InvalidInput(given, field="clean", accepted=f"{step.out_of_order} (out_of_order)")
    steps = np.diff(np.unique(moments))
    if step.irregular is None or not len(steps):
        return
    lengths, counts = np.unique(steps, return_counts=True)
    others = int(counts.sum() - counts.max())
    if others > step.irregular * len(steps):
        usual = int(lengths[counts.argmax()])
        at = said(int(np.unique(moments)[np.flatnonzero(steps != usual)[0]]))
        given = f"{others} of {len(steps)} steps are not of {usual / 1e6:g} s, the first after {at}"
        raise InvalidInput(given, field="clean", accepted=f"a share of {step.irregular:g} (irregular), or resample")


def resampled(frame: pl.DataFrame, step: Resample, names: Sequence[str], label: str | None) -> pl.DataFrame:
    """One row for each `every` from the first row to the last; without a value where there was no row.

    A row's time is the beginning of what it stands for. It is an anomaly where any row of it was one.
    """
    every = length_of(step.every)
    first, last = int(frame[TIME][0]) // every * every, int(frame[TIME][-1])
    count = (last - first) // every + 1
    if count > MOST_ROWS:
        raise InvalidInput(f"{count} rows of {step.every} each", field="clean", accepted=f"{MOST_ROWS} at most")
    how = {
        "mean": pl.Expr.mean,
        "sum": pl.Expr.sum,
        "min": pl.Expr.min,
        "max": pl.Expr.max,
        "median": pl.Expr.median,
        "first": pl.Expr.first,
        "last": pl.Expr.last,
    }[step.take]
    known = [how(pl.col(name).drop_nulls()).alias(name) for name in names]
    # The sum of nothing is 0, and yet nothing was seen.
    seen = [pl.when(pl.col(name).count() > 0).then(value).alias(name) for name, value in zip(names, known, strict=True)]
    labels = [pl.col(label).max()] if label else []
    grouped = frame.group_by((pl.col(TIME) // every * every).alias(TIME), maintain_order=True).agg(*seen, *labels)
    whole = pl.DataFrame({TIME: first + every * np.arange(count)}).join(grouped, TIME, "left", maintain_order="left")
    return whole.with_columns(pl.col(label).fill_null(0)) if label else whole


def filled(values: Values, step: Fill, ends: Sequence[int], name: str, moments: NDArray[np.int64]) -> Values:
    """A column without gaps; NaN is one. `ends` are where the splits end: no value of a later one is looked at.

    Raises InvalidInput for a gap that is longer than accepted, and for a column without a value in the first split.
    """
    missing = np.isnan(values)
    if step.max_gap is not None and (gap := _longest(missing))[1] > step.max_gap:
        given = f"{gap[1]} values of {name[:80]!r} in a row are missing from {said(int(moments[gap[0]]))}"
        raise InvalidInput(given, field="clean", accepted=f"{step.max_gap} (max_gap)")
    made, begin = values.copy(), 0
    for end in ends:
        known = np.flatnonzero(~np.isnan(made[begin:end])) + begin
        at = np.concatenate([np.arange(begin - 1, begin), known]) if begin else known
        if not len(at):
            given = f"{name[:80]!r} has no value in the training split"
            raise InvalidInput(given, field="columns", accepted="a column with values")
        rows = np.arange(begin, end)
        if step.method == "linear":
            made[begin:end] = np.interp(rows, at, made[at])
        else:
            made[begin:end] = made[at[np.maximum(0, np.searchsorted(at, rows, side="right") - 1)]]
        begin = end
    return made


def _longest(missing: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the longest gap begins, and how long it is."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]]).astype(np.int8)))
    begins, lengths = edges[::2], edges[1::2] - edges[::2]
    at = int(lengths.argmax()) if len(lengths) else -1
    return (int(begins[at]), int(lengths[at])) if at >= 0 else (0, 0)


def limits(values: Values, step: Outliers, train: int) -> tuple[float, float] | None:
    """Between which values a column is no outlier, by the quartiles of its first `train` rows (Tukey 1977).

    None where half of these have the same value.
    """
    low, high = np.quantile(values[:train], (0.25, 0.75))
    far = step.distance * (high - low)
    return (float(low - far), float(high + far)) if far > 0 else None


def said(moment: int) -> str:
    """A moment as people read it; as a number where the calendar does not reach."""
    try:
        return datetime.fromtimestamp(moment / 1e6, UTC).isoformat(sep=" ").removesuffix("+00:00")
    except (ValueError, OverflowError, OSError):
        return str(moment)
