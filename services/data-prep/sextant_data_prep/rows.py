"""The rows of CSV and JSON lines, as texts: each is judged alone, and a bad one goes into quarantine."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.domain.texts import fault
from sextant_shared.errors import InvalidInput

MAX_COLUMNS = 10_000
BATCH = 10_000
ROW = "\0row"
"""The column of line numbers. No column of a file is called so: it would hold NUL."""
NO_CSV = f"is no CSV: stray quotes, or over {csv.field_size_limit()} characters in a field"
Row = dict[str, str | None]
Record = tuple[int, list[str] | str]


def read_csv(path: Path, quarantine: Quarantine) -> pl.DataFrame:
    """A file's rows, missing values as null, and ROW. Raises InvalidInput where the header is none."""
    records = _records(_lines(path))
    names = _header(records)
    return _frame(_csv_rows(records, names, quarantine), names)


def read_json_lines(path: Path, quarantine: Quarantine) -> pl.DataFrame:
    """A file's objects, missing values as null, and ROW. Raises InvalidInput where it holds none."""
    frame = _frame(_json_rows(_lines(path), quarantine))
    if frame.is_empty():
        raise InvalidInput("the file holds no JSON object", field="source", accepted="one JSON object a line")
    return frame


def _lines(path: Path) -> list[str]:
    # Bytes that are no UTF-8 become halves of surrogate pairs: a fault of their row, not of the file.
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        return list(stream)


def _frame(rows: Iterator[Row], names: Iterable[str] = ()) -> pl.DataFrame:
    schema = dict.fromkeys([*names, ROW], pl.String)
    parts = [pl.DataFrame(schema=schema)]
    while batch := list(islice(rows, BATCH)):
        schema |= dict.fromkeys((name for row in batch for name in row), pl.String)
        _limit(len(schema) - 1)
        parts.append(pl.DataFrame(batch, schema=schema))
    return pl.concat(parts, how="diagonal").with_columns(pl.col(ROW).cast(pl.Int64))


def _limit(columns: int) -> None:
    if columns > MAX_COLUMNS:
        raise InvalidInput(f"{columns} columns; at most {MAX_COLUMNS} are accepted", field="source")


def _records(lines: list[str]) -> Iterator[Record]:
    """Each record with the number of its first line: its fields, or what is wrong with it.

    A record goes on to the next line while a quote is open. One whose quotes are wrong is its first line alone, so that
    it takes no other with it.
    """
    at = 0
    while at < len(lines):
        end = _end(lines, at)
        text = "".join(lines[at:end])
        fields = _fields(text)
        if fields is None:
            text, end = lines[at], at + 1
        if text.strip():
            yield at + 1, fault(text) or fields or NO_CSV
        at = end


def _end(lines: list[str], at: int) -> int:
    quotes = 0
    for end in range(at, len(lines)):
        quotes += lines[end].count('"')
        if quotes % 2 == 0:
            return end + 1
    return at + 1


def _fields(text: str) -> list[str] | None:
    if text.count('"') % 2:
        return None
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error:
        return None


def _header(records: Iterator[Record]) -> list[str]:
    _, fields = next(records, (0, "is missing: the file is empty"))
    if isinstance(fields, str):
        raise InvalidInput(f"the header {fields}", field="source", accepted="names in UTF-8, with commas between them")
    _limit(len(fields))
    names = [name or f"column_{number}" for number, name in enumerate(fields, 1)]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InvalidInput(f"{times} columns are called {name[:80]!r}", field="source", accepted="unique names")
    return names


def _csv_rows(records: Iterator[Record], names: list[str], quarantine: Quarantine) -> Iterator[Row]:
    for number, fields in records:
        if isinstance(fields, str):
            quarantine.add(number, fields)
        elif len(fields) != len(names):
            quarantine.add(number, f"does not have {len(names)} columns")
        else:
            yield {**{name: field or None for name, field in zip(names, fields, strict=True)}, ROW: str(number)}


def _json_rows(lines: list[str], quarantine: Quarantine) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        row = _flat(line) if line.strip() else None
        if isinstance(row, str):
            quarantine.add(number, row)
        elif row is not None:
            yield {**row, ROW: str(number)}


def _flat(line: str) -> Row | str:
    """The object that a line holds, or what is wrong with it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return fault(line) or "is no JSON"
    if not isinstance(value, dict) or any(isinstance(item, dict | list) for item in value.values()):
        return "is no flat JSON object"
    row = {name: None if item is None else str(item) or None for name, item in value.items()}
    return fault("".join(text for pair in row.items() for text in pair if text)) or row
