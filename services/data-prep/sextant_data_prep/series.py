"""A table of times and values as a series: in order, without gaps in its values, and stored once.

Windows are not written out: `splits` says between which rows those of each split have what they forecast. What the
first windows of validation and test see reaches back into the split before, as is usual.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from sextant_data_prep.cleaning import Say
from sextant_data_prep.domain import series_steps, times
from sextant_data_prep.domain.quality import Column, Quality, histogram
from sextant_data_prep.domain.series_steps import TIME
from sextant_data_prep.ledger import Ledger
from sextant_data_prep.readers.batch import ROW
from sextant_data_prep.roles import listed
from sextant_data_prep.series_cleaning import Series, check_names, clean, one_of
from sextant_data_prep.sinks import SplitWriter
from sextant_data_prep.sources import Source
from sextant_data_prep.writing import FORMAT
from sextant_shared.contracts.cleaning import Zone
from sextant_shared.contracts.specs import PrepareSpec, Window
from sextant_shared.errors import InvalidInput

SERIES = "series"


def prepare(
    spec: PrepareSpec, source: Source, out: Path, about: dict[str, Any], say: Say
) -> tuple[dict[str, Any], Quality]:
    """Write the dataset version of `source` under `out`; its description, and what its report shows beside.

    Raises InvalidInput for a column that there is not, for a time that stands twice, for too many values that are
    missing or no numbers, and where a split has no room for a window.
    """
    time, window = spec.split.time or "", spec.window or Window()
    names = _columns(spec, source, time)
    ledger = Ledger(out)
    labels = [spec.target] if spec.target else []
    check_names(spec.clean, names)
    frame = _read(source, spec, [*names, *labels], ledger)
    ledger.check(spec.max_bad_share)
    say(0.5, "ordering", {"rows": float(ledger.read), "bad": float(sum(ledger.reasons.values()))})
    series = clean(spec, frame, names, ledger)
    spans = series.spans
    say(0.7, "writing", {})
    files, digest = _write(out, series, names)
    train = series.values[spans["train"].begin : spans["train"].end].astype(np.float64)
    schema = {
        "format": FORMAT,
        "features": [{"name": name, "dtype": "float32", "shape": []} for name in names],
        "target": {"name": spec.target or "", "classes": []},
        "window": window.model_dump(),
    }
    splits = {name: {**span.plain(), "files": files, "class_counts": []} for name, span in spans.items()}
    if series.anomaly is not None:
        for split in splits.values():
            split["anomalies"] = int(series.anomaly[split["begin"] : split["end"]].sum())
    digest.update(json.dumps([schema, splits], sort_keys=True).encode())
    described = {
        **schema,
        **about,
        "splits": splits,
        "digest": digest.hexdigest(),
        "statistics": _statistics(train, names),
        "time": {"column": time, "out_of_order": series.out_of_order, **_rhythm(series.times)},
        "filled": series.filled,
        **series.found,
        "removed": dict(sorted(ledger.removed.items())),
        "quarantined": {"rows": sum(ledger.reasons.values()), "reasons": dict(sorted(ledger.reasons.items()))},
        "duplicates": 0,
    }
    (out / "dataset.json").write_text(json.dumps(described, indent=1, sort_keys=True))
    columns = [
        Column(name, series.filled.get(name, 0) / len(series.times), histogram(train[:, index]))
        for index, name in enumerate(names)
    ]
    return described, Quality(ledger.read, columns)


def _columns(spec: PrepareSpec, source: Source, time: str) -> list[str]:
    """The columns that are forecast."""
    first = next(iter(source.read()), None)
    known = [name for name in first.frame.columns if name != ROW] if first else []
    if time not in known:
        raise InvalidInput(f"there is no column {time[:80]!r}", field="split.time", accepted=listed(known))
    if spec.target is not None and (spec.target not in known or spec.target == time):
        given = f"there is no column {spec.target[:80]!r} of labels"
        raise InvalidInput(given, field="target", accepted=listed(known))
    others = [name for name in known if name not in (time, spec.target)]
    for name in spec.columns or []:
        if name not in others:
            raise InvalidInput(f"there is no column {name[:80]!r} of values", field="columns", accepted=listed(others))
    if not others:
        raise InvalidInput(f"there is no column beside {time[:80]!r}", field="source", accepted="columns of numbers")
    return list(spec.columns or others)


def _read(source: Source, spec: PrepareSpec, names: list[str], ledger: Ledger) -> pl.DataFrame:
    """Times in microseconds and values, without the rows that have no time."""
    zones, parts, time = times.Zones(), [], spec.split.time or ""
    zone = one_of(spec.clean, Zone)
    for batch in source.read(numeric=frozenset(names)):
        ledger.bad(batch.bad)
        ledger.read += len(batch.frame) + len(batch.bad)
        if batch.frame.is_empty():
            continue
        zones.add(batch.frame[time].drop_nulls())
        frame = batch.frame.select(ROW, times.microseconds(time).alias(TIME), *names)
        reasons = frame.select(pl.when(pl.col(TIME).is_null()).then(pl.lit("has no time that can be read")))
        frame = ledger.screen(frame, ROW, reasons.to_series())
        if zone is not None:
            frame = _moments(frame, zone, zones, ledger)
        parts.append(frame)
    if not parts:
        raise InvalidInput("the source holds no rows", field="source", accepted="rows of times and values")
    return pl.concat(parts)


def _moments(frame: pl.DataFrame, zone: Zone, zones: times.Zones, ledger: Ledger) -> pl.DataFrame:
    """With moments in place of what the clocks of the zone showed."""
    if zones.zoned:
        given = "times that have a zone or an offset need no step for it"
        raise InvalidInput(given, field="clean", accepted="{do: zone} for times without one")
    frame = frame.with_columns(series_steps.to_utc(zone.name))
    reason = pl.when(pl.col(TIME).is_null()).then(pl.lit(f"has a time that {zone.name} never had"))
    return ledger.screen(frame, ROW, frame.select(reason).to_series())


def _write(out: Path, series: Series, names: list[str]) -> tuple[list[str], Any]:
    fields = [("time", pa.int64()), ("values", pa.list_(pa.float32(), len(names)))]
    schema = pa.schema(fields if series.anomaly is None else [*fields, ("anomaly", pa.bool_())])
    writer = SplitWriter(out, SERIES, schema)
    values = pa.FixedSizeListArray.from_arrays(pa.array(series.values.reshape(-1)), len(names))
    labels = {} if series.anomaly is None else {"anomaly": pa.array(series.anomaly)}
    writer.add(pa.table({"time": series.times, "values": values, **labels}))
    writer.close()
    digest = hashlib.sha256()
    for one in writer.digests():
        digest.update(one)
    return writer.files, digest


def _statistics(train: NDArray[np.float64], names: list[str]) -> dict[str, dict[str, float]]:
    """Of the training rows alone."""
    figures = np.stack([train.mean(0), train.std(0), train.min(0), train.max(0)], axis=1).tolist()
    keys = ("mean", "std", "min", "max")
    return {name: dict(zip(keys, of, strict=True)) for name, of in zip(names, figures, strict=True)}


def _rhythm(moments: NDArray[np.int64]) -> dict[str, Any]:
    """The usual time from one row to the next, and how many times it is another."""
    steps, counts = np.unique(np.diff(moments), return_counts=True)
    usual = int(steps[counts.argmax()])
    return {"step_us": usual, "irregular": int(counts.sum() - counts.max())}
