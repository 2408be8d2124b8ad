"""A series through its steps: in order, each time once, regular, without gaps, and split in the order of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_data_prep.domain import borders, series_steps
from sextant_data_prep.domain.series_steps import TIME
from sextant_data_prep.learning import Limits
from sextant_data_prep.ledger import Ledger
from sextant_data_prep.readers.batch import ROW
from sextant_shared.contracts.cleaning import Deduplicate, Fill, Order, Outliers, Resample, Step
from sextant_shared.contracts.specs import PrepareSpec, Window
from sextant_shared.errors import InvalidInput

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Series:
    """Rows in the order of time: microseconds, values (rows, columns), and how many values were filled by column.

    `anomaly` says which rows are labelled as such, where there are labels; `limits` where outliers begin, by column.
    """

    times: NDArray[np.int64]
    values: NDArray[np.float32]
    spans: Mapping[str, borders.Span]
    filled: dict[str, int]
    out_of_order: int
    anomaly: NDArray[np.bool_] | None
    limits: dict[str, Limits]

    @property
    def found(self) -> dict[str, Any]:
        """What the description says of outliers."""
        return {"outliers": {name: asdict(one) for name, one in self.limits.items()}} if self.limits else {}


def clean(spec: PrepareSpec, frame: pl.DataFrame, names: Sequence[str], ledger: Ledger) -> Series:
    """The series of rows as they were read. Raises InvalidInput for what no step allows."""
    steps, target = spec.clean, spec.target
    moments = frame[TIME].to_numpy()
    if order := one_of(steps, Order):
        series_steps.check_order(order, moments)
    out_of_order = int(np.count_nonzero(moments[1:] < moments[:-1]))
    if target is not None:
        _check_labels(frame, target)
    frame = _each_time_once(frame.sort(TIME, maintain_order=True), spec, ledger)
    frame = frame.with_columns(
        pl.when(pl.col(name).is_finite()).then(pl.col(name).cast(pl.Float64)).alias(name) for name in names
    )
    for name in names:
        if _fill_of(steps, name) is None:
            _check_share(frame, name, spec.max_bad_share)
    if step := one_of(steps, Resample):
        frame = series_steps.resampled(frame, step, names, target)
    spans = borders.spans(len(frame), spec.split, spec.window or Window())
    ends = [*(span.end for span in spans.values()), len(frame)]
    times, columns = frame[TIME].to_numpy(), []
    filled: dict[str, int] = {}
    limits: dict[str, Limits] = {}
    for name in names:
        values = frame[name].to_numpy().astype(np.float64)
        if missing := int(np.isnan(values).sum()):
            filled[name] = missing
        values = series_steps.filled(values, _fill_of(steps, name) or Fill(do="fill"), ends, name, times)
        values, found = _without_outliers(values, _outliers_of(steps, name), ends)
        if found is not None:
            limits[name] = found
        columns.append(values)
    anomaly = None if target is None else frame[target].to_numpy() == 1.0
    return Series(times, np.stack(columns, 1).astype(np.float32), spans, filled, out_of_order, anomaly, limits)


def one_of(steps: Sequence[Step], kind: type[S]) -> S | None:
    """The last step of a kind."""
    found: list[S] = [step for step in steps if isinstance(step, kind)]
    return found[-1] if found else None


def _fill_of(steps: Sequence[Step], name: str) -> Fill | None:
    return one_of([step for step in steps if isinstance(step, Fill) and _names(step.columns, name)], Fill)


def _outliers_of(steps: Sequence[Step], name: str) -> Outliers | None:
    return one_of([step for step in steps if isinstance(step, Outliers) and _names(step.columns, name)], Outliers)


def _names(columns: Sequence[str] | None, name: str) -> bool:
    return columns is None or name in columns


def check_names(steps: Sequence[Step], names: Sequence[str]) -> None:
    """Raise InvalidInput where a step names a column that is none of the values'."""
    for step in steps:
        for name in (step.columns or ()) if isinstance(step, Fill | Outliers) else ():
            if name not in names:
                given = f"{step.do}: there is no column {name[:80]!r} of values"
                raise InvalidInput(given, field="clean", accepted=", ".join(names[:20]))


def _each_time_once(frame: pl.DataFrame, spec: PrepareSpec, ledger: Ledger) -> pl.DataFrame:
    moments = frame[TIME].to_numpy()
    again = np.flatnonzero(moments[1:] == moments[:-1])
    if not again.size or one_of(spec.clean, Resample) is not None:
        return frame
    if one_of(spec.clean, Deduplicate) is not None:
        doubles = frame[ROW].gather(again + 1).sort()
        noted = pl.DataFrame({"row": doubles}).with_columns(pl.lit("the time stood there before").alias("reason"))
        ledger.note(noted, "deduplicate")
        return frame.unique(TIME, keep="first", maintain_order=True)
    one, other = frame[ROW][int(again[0])], frame[ROW][int(again[0]) + 1]
    given = f"{again.size} times of {(spec.split.time or '')[:80]!r} stand twice, for example in rows {one} and {other}"
    accepted = "each time once, or a step: {do: deduplicate} or {do: resample}"
    raise InvalidInput(given, field="split.time", accepted=accepted)


def _check_share(frame: pl.DataFrame, name: str, max_bad_share: float) -> None:
    missing = frame[name].is_null()
    if missing.sum() > max_bad_share * len(frame):
        row = int(frame[ROW].filter(missing).to_numpy().min())
        given = f"{missing.sum()} of {len(frame)} values of {name[:80]!r} are missing or no numbers, first in row {row}"
        accepted = f"numbers; a share of {max_bad_share:g} (max_bad_share) is filled with the value before"
        raise InvalidInput(given, field="columns", accepted=f"{accepted}, or a step: {{do: fill}}")


def _check_labels(frame: pl.DataFrame, target: str) -> None:
    wrong = ~frame[target].is_in([0.0, 1.0]).fill_null(value=False)
    if wrong.any():
        row = frame[ROW].filter(wrong)[0]
        given = f"{wrong.sum()} values of {target[:80]!r} are neither 0 nor 1, first in row {row}"
        raise InvalidInput(given, field="target", accepted="0, and 1 for an anomaly")


def _without_outliers(
    values: NDArray[np.float64], step: Outliers | None, ends: Sequence[int]
) -> tuple[NDArray[np.float64], Limits | None]:
    """The values, brought to the limits of the training rows where asked for; the limits, with the values outside."""
    ranged = series_steps.limits(values, step, ends[0]) if step else None
    if step is None or ranged is None:
        return values, None
    low, high = ranged
    outside = int(((values < low) | (values > high)).sum())
    clip = step.action == "clip"
    return np.clip(values, low, high) if clip else values, Limits(low, high, clip, outside)
