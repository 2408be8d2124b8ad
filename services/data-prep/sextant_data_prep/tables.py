"""CSV and JSON lines: columns typed, rows that do not fit put into quarantine."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl

from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.domain.samples import Feature, Samples
from sextant_data_prep.domain.texts import is_storable
from sextant_shared.errors import InvalidInput

MAX_COLUMNS = 10_000
NUMERIC_SHARE = 0.9
"""A column is numeric where at least this share of its values are numbers; the others are then bad rows."""
MAX_CATEGORIES = 64
ROW = "__row__"


def read(path: Path, task: str, target: str | None, text: str | None) -> Samples:
    """The samples of a .csv or .jsonl file. Raises InvalidInput for what is not one, or has no such column."""
    quarantine = Quarantine()
    frame = _csv(path, quarantine) if path.suffix.lower() == ".csv" else _json_lines(path, quarantine)
    target = _column(frame, target, "target")
    labelled = _drop(frame, frame[target].is_null() | (frame[target] == ""), "the label is missing", quarantine)
    if labelled.is_empty():
        quarantine.check(len(quarantine.rows), 0.0)
    if task == "text-classification":
        return _text(labelled, target, _column(frame, text, "text"), quarantine)
    return _table(labelled, target, quarantine)


def _csv(path: Path, quarantine: Quarantine) -> pl.DataFrame:
    lines = _decode(path, quarantine)
    names = _header(lines, quarantine)
    rows: list[list[str | None]] = []
    numbers: list[int] = []
    for number, line in lines[1:]:
        fields = _fields(line)
        if fields is None or len(fields) != len(names):
            quarantine.add(number, f"does not have {len(names)} columns")
        else:
            rows.append([field or None for field in fields])
            numbers.append(number)
    frame = pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")
    return frame.with_columns(pl.Series(ROW, numbers, pl.Int64))


def _header(lines: list[tuple[int, str]], quarantine: Quarantine) -> list[str]:
    if quarantine.rows and quarantine.rows[0][0] == 1:
        raise InvalidInput(f"the header {quarantine.rows[0][1]}", field="source", accepted="a file in UTF-8")
    names = _fields(lines[0][1]) if lines else None
    if not names:
        raise InvalidInput("the file is empty, or its header is no CSV", field="source")
    if len(names) > MAX_COLUMNS:
        raise InvalidInput(f"{len(names)} columns; at most {MAX_COLUMNS} are accepted", field="source")
    if twice := {name for name in names if names.count(name) > 1}:
        raise InvalidInput(f"the column {min(twice)[:80]!r} stands twice", field="source", accepted="unique names")
    return names


def _fields(line: str) -> list[str] | None:
    """The fields of one line, or None where its quotes do not close or stand where none may."""
    if '"' not in line:
        return line.split(",")
    try:
        return next(csv.reader([line], strict=True))
    except csv.Error:
        return None


def _json_lines(path: Path, quarantine: Quarantine) -> pl.DataFrame:
    rows: list[dict[str, str | None]] = []
    for number, line in _decode(path, quarantine):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            quarantine.add(number, "is no JSON")
            continue
        if not isinstance(value, dict) or any(isinstance(v, dict | list) for v in value.values()):
            quarantine.add(number, "is no flat JSON object")
            continue
        row = {k: None if v is None else str(v) for k, v in value.items()}
        if not all(is_storable(text) for pair in row.items() for text in pair if text):
            quarantine.add(number, "holds NUL or half of a surrogate pair")
            continue
        rows.append({**row, ROW: str(number)})
    if not rows:
        raise InvalidInput("the file holds no JSON object", field="source", accepted="one JSON object a line")
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if frame.width > MAX_COLUMNS:
        raise InvalidInput(f"{frame.width} columns; at most {MAX_COLUMNS} are accepted", field="source")
    return frame.with_columns(pl.col(ROW).cast(pl.Int64))


def _decode(path: Path, quarantine: Quarantine) -> list[tuple[int, str]]:
    """The lines that are UTF-8 and can be stored, with their numbers from 1 on."""
    lines: list[tuple[int, str]] = []
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                quarantine.add(number, "is not UTF-8")
                continue
            if not is_storable(line):
                quarantine.add(number, "holds NUL")
            elif line.strip():
                lines.append((number, line))
    return lines


def _column(frame: pl.DataFrame, name: str | None, field: str) -> str:
    known = [column for column in frame.columns if column != ROW]
    if name is None or name not in known:
        given = "no column is named" if name is None else f"there is no column {name[:80]!r}"
        raise InvalidInput(given, field=field, accepted=", ".join(known[:30]))
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
    features: list[Feature] = []
    names: dict[str, pl.Expr] = {}
    for name in frame.columns:
        if name in (target, ROW) or frame[name].is_null().all():
            continue
        number = frame[name].str.strip_chars().cast(pl.Float32, strict=False)
        if number.is_not_null().sum() >= NUMERIC_SHARE * len(frame):
            frame = _drop(frame, ~number.is_finite(), f"{name} is no finite number", quarantine)
            features.append(Feature(name, "float32"))
            names[name] = pl.col(name).str.strip_chars().cast(pl.Float32)
        else:
            for category in _categories(frame, name):
                features.append(Feature(f"{name}={category}", "float32"))
                names[f"{name}={category}"] = (pl.col(name).fill_null("") == category).cast(pl.Float32)
    if not features:
        raise InvalidInput("there is no column to learn from beside the target", field="source")
    made = frame.select([expression.alias(name) for name, expression in names.items()])
    columns = {name: made[name].to_numpy() for name in names}
    return Samples(features, columns, frame[target].to_list(), target, np.asarray(frame[ROW].to_numpy()), quarantine)


def _categories(frame: pl.DataFrame, name: str) -> list[str]:
    values = sorted(set(frame[name].fill_null("").to_list()))
    if len(values) > MAX_CATEGORIES:
        accepted = f"numbers, or at most {MAX_CATEGORIES} categories; take the column out"
        raise InvalidInput(f"column {name[:80]!r} has {len(values)} categories", field="source", accepted=accepted)
    return values
