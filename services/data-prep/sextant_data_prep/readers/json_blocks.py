"""JSON lines: whole blocks at once where all is plain, and line by line where not."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from sextant_data_prep.readers import blocks, lines
from sextant_data_prep.readers.batch import ROW, Batch, check, typed
from sextant_data_prep.readers.blocks import NEWLINE, Parsed, places
from sextant_data_prep.readers.csv_blocks import BOM
from sextant_shared.errors import InvalidInput

DOUBTFUL = (b"\0", b"\\u0000", b"\\ud", b"\\uD")
"""NUL, and escapes that may be half of a surrogate pair."""


def read(
    path: Path,
    numeric: Collection[str] = (),
    nulls: Collection[str] = (),
    *,
    begin: int = 0,
    end: int | None = None,
) -> Iterator[Batch]:
    """The objects of a file, or of its bytes [begin, end), which are whole lines. Raises InvalidInput for none in it.

    Rows have the numbers of their lines, counted from 1 in each part.
    """

    def parse(data: bytes, line: int, last: bool) -> Parsed:
        data = data[: blocks.whole_lines(data, last)]
        found = _fast(data, line) or _slow(data, line)
        return Parsed(Batch(typed(found.batch.frame, numeric, nulls), found.batch.bad), found.used, found.lines)

    names: set[str] = set()
    objects = 0
    with path.open("rb") as stream:
        mark = len(BOM) if stream.read(len(BOM)) == BOM else 0
        for batch in blocks.parsed(blocks.Section(stream, max(begin, mark), end), 1, parse):
            names.update(batch.frame.columns)
            check(names - {ROW})
            objects += batch.frame.height
            yield batch
    if not objects and not begin and end is None:
        raise InvalidInput("the file holds no JSON object", field="source", accepted="one JSON object a line")


def _fast(data: bytes, line: int) -> Parsed | None:
    buffer = np.frombuffer(data, np.uint8)
    if not data.strip() or any(mark in data for mark in DOUBTFUL) or blocks.has_lone_return(data, buffer):
        return None
    try:
        frame = pl.read_ndjson(data, infer_schema_length=None)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        return None
    check(frame.columns)
    ends = places(buffer, NEWLINE)
    filled = np.flatnonzero(np.diff(ends, prepend=-1) > 2)
    tail = data[int(ends[-1]) + 1 if ends.size else 0 :]
    numbers = np.append(filled, ends.size) if tail.strip() else filled
    if numbers.size != frame.height or _may_be_nested(frame):
        return None
    numbered = frame.with_columns(pl.Series(ROW, line + numbers, pl.Int64))
    return Parsed(Batch(numbered), len(data), ends.size)


def _may_be_nested(frame: pl.DataFrame) -> bool:
    """Lists and objects beside texts are read as texts."""
    if any(dtype.is_nested() for dtype in frame.dtypes):
        return True
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    return any(frame[name].str.contains(r"^[\[{]").any() for name in texts)


def _slow(data: bytes, line: int) -> Parsed:
    rows: list[lines.Row] = []
    numbers: list[int] = []
    bad: list[tuple[int, str]] = []
    split = lines.split(data)
    for number, text in enumerate(split, line):
        row = lines.flat_object(text) if text.strip() else None
        if isinstance(row, str):
            bad.append((number, row))
        elif row is not None:
            rows.append(row)
            numbers.append(number)
    schema = dict.fromkeys((name for row in rows for name in row), pl.String)
    check(schema)
    frame = pl.DataFrame(rows, schema=schema).with_columns(pl.Series(ROW, numbers, pl.Int64))
    return Parsed(Batch(frame, bad), len(data), len(split))
