"""Tables: columns typed, rows that do not fit put into quarantine."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path

import polars as pl

from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.domain.samples import RESERVED, Feature, Samples
from sextant_data_prep.rows import ROW, read_csv, read_json_lines
from sextant_shared.errors import InvalidInput

NUMERIC_SHARE = 0.9
"""A column is numeric where at least this share of its values are numbers; the others are then bad rows."""
MAX_CATEGORIES = 64


def read(path: Path, task: str, target: str | None, text: str | None) -> Samples:
    """The samples of a .csv or .jsonl file. Raises InvalidInput for what is not one, or has no such column."""
    quarantine = Quarantine()
    frame = (read_csv if path.suffix.lower() == ".csv" else read_json_lines)(path, quarantine)
    target = _column(frame, target, "target")
    labelled = _drop(frame, frame[target].is_null(), "the label is missing", quarantine)
    if labelled.is_empty():
        quarantine.check(len(quarantine.rows), 0.0)
    if task == "text-classification":
        return _text(labelled, target, _column(frame, text, "text"), quarantine)
    return _table(labelled, target, quarantine)


def _column(frame: pl.DataFrame, name: str | None, field: str) -> str:
    known = [column for column in frame.columns if column != ROW]
    if name is None or name not in known:
        given = "no column is named" if name is None else f"there is no column {name[:80]!r}"
        raise InvalidInput(given, field=field, accepted=", ".join(column[:80] for column in known[:30]))
    return name


def _drop(frame: pl.DataFrame, bad: pl.Series, reason: str, quarantine: Quarantine) -> pl.DataFrame:
    bad = bad.fill_null(True)
    for row in frame[ROW].filter(bad):
        quarantine.add(row, reason)
    return frame.filter(~bad)


def _text(frame: pl.DataFrame, target: str, text: str, quarantine: Quarantine) -> Samples:
    frame = _drop(frame, frame[text].is_null() | (frame[text].str.strip_chars() == ""), "the text is empty", quarantine)
    texts = frame[text].str.strip_chars().to_list()
    return Samples(
        [Feature("text", "string")], {"text": texts}, frame[target].to_list(), target, frame[ROW].to_numpy(), quarantine
    )


def _table(frame: pl.DataFrame, target: str, quarantine: Quarantine) -> Samples:
    features: dict[str, pl.Expr] = {}
    for name in frame.columns:
        if name in (target, ROW) or frame[name].is_null().all():
            continue
        number = frame[name].str.strip_chars().cast(pl.Float32, strict=False)
        if number.is_not_null().sum() >= NUMERIC_SHARE * len(frame):
            frame = _drop(frame, ~number.is_finite(), f"{name[:80]} is no finite number", quarantine)
            features[_free(name, features)] = pl.col(name).str.strip_chars().cast(pl.Float32)
        else:
            for category in _categories(frame, name):
                is_it = (pl.col(name).fill_null("") == category).cast(pl.Float32)
                features[_free(f"{name}={category}", features)] = is_it
    if not features:
        raise InvalidInput("there is no column to learn from beside the target", field="source")
    made = frame.select([expression.alias(name) for name, expression in features.items()])
    columns = {name: made[name].to_numpy() for name in features}
    described = [Feature(name, "float32") for name in features]
    return Samples(described, columns, frame[target].to_list(), target, frame[ROW].to_numpy(), quarantine)


def _free(name: str, taken: Container[str]) -> str:
    """The name, or, where a feature or the files have it already, the name with underscores behind it."""
    while name in taken or name in RESERVED:
        name += "_"
    return name


def _categories(frame: pl.DataFrame, name: str) -> list[str]:
    values = sorted(set(frame[name].fill_null("").to_list()))
    if len(values) > MAX_CATEGORIES:
        accepted = f"numbers, or at most {MAX_CATEGORIES} categories; take the column out"
        raise InvalidInput(f"column {name[:80]!r} has {len(values)} categories", field="source", accepted=accepted)
    return values
