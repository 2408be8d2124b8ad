"""CSV: whole blocks at once where every quote stands where it may, and row by row where not."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

import numpy as np
import polars as pl

from sextant_data_prep.domain.texts import fault
from sextant_data_prep.readers import blocks, lines
from sextant_data_prep.readers.batch import MAX_COLUMNS, ROW, Batch, check, typed
from sextant_data_prep.readers.blocks import COMMA, NEWLINE, QUOTE, Bytes, Parsed, Places, places
from sextant_shared.errors import InvalidInput

BOM = b"\xef\xbb\xbf"
MAX_HEADER = 100 * MAX_COLUMNS


def read(
    path: Path,
    numeric: Collection[str] = (),
    nulls: Collection[str] = (),
    *,
    begin: int = 0,
    end: int | None = None,
) -> Iterator[Batch]:
    """The rows of a file, or of its bytes [begin, end), which are whole rows. Raises InvalidInput for no header.

    Rows have the numbers of their lines; those of a part that has no header are counted from 1.
    """
    with path.open("rb") as stream:
        names, behind, line = _header(stream)
        table = _Table(names, frozenset(numeric), list(nulls))
        yield Batch(pl.DataFrame(schema=table.schema | {ROW: pl.Int64}))
        section = blocks.Section(stream, max(begin, behind), end)
        yield from blocks.parsed(section, 1 if begin else line, table.parse)


def header_size(path: Path) -> int:
    """How many bytes stand before the first row. Raises InvalidInput where the header is none."""
    with path.open("rb") as stream:
        return _header(stream)[1]


def whole_rows(data: bytes) -> int:
    """How many bytes, which begin with a row, are whole rows."""
    if b'"' not in data and data.count(b"\r") == data.count(b"\r\n"):
        return blocks.whole_lines(data, last=False)
    layout = _Layout.of(data, last=False)
    if layout is not None:
        return layout.size
    block = lines.split(data[: blocks.whole_lines(data, last=False)])
    return lines.size(block[: max((record.end for record in lines.records(block, whole=False)), default=0)])


def _header(stream: IO[bytes]) -> tuple[list[str], int, int]:
    """The columns' names, and where behind them the rows begin: the byte, and the number of the line."""
    block = stream.read(min(blocks.FIRST, blocks.BLOCK))
    mark = len(BOM) if block.startswith(BOM) else 0
    block = block[mark:]
    while block and not block.strip() and (more := stream.read(blocks.BLOCK)):
        block += more
    if b"\n" not in block.lstrip() or b'"' in block.lstrip().partition(b"\n")[0]:
        block += stream.read(blocks.BLOCK)
    _not_too_wide(block)
    head = lines.split(block)
    found = next((record for record in lines.records(head) if record.fields), None)
    if found is None:
        raise _no_header("is missing: the file is empty")
    if found.end == len(head) and len(block) >= blocks.BLOCK:
        raise _no_header(f"is longer than {blocks.BLOCK} bytes")
    if isinstance(found.fields, str):
        raise _no_header(found.fields)
    check(found.fields)
    names = [name or f"column_{number}" for number, name in enumerate(found.fields, 1)]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise InvalidInput(f"{times} columns are called {name[:80]!r}", field="source", accepted="unique names")
    return names, mark + lines.size(head[: found.end]), found.end + 1


def _not_too_wide(block: bytes) -> None:
    """Refuse a header of millions of columns before its names take up memory."""
    first = block.lstrip(b"\r\n").partition(b"\n")[0]
    if b'"' not in first and first.count(b",") >= MAX_HEADER:
        given = f"the header has over {MAX_HEADER} columns"
        raise InvalidInput(given, field="source", accepted=f"{MAX_COLUMNS} columns")


def _no_header(why: str) -> InvalidInput:
    return InvalidInput(f"the header {why}", field="source", accepted="names in UTF-8, with commas between them")


class _Table:
    def __init__(self, names: list[str], numeric: frozenset[str], nulls: list[str]) -> None:
        self.names = names
        self.numeric = numeric
        self.nulls = nulls
        self.schema: dict[str, type[pl.DataType]] = {n: pl.Float32 if n in numeric else pl.String for n in names}
        self.ragged = f"does not have {len(names)} columns"

    def parse(self, data: bytes, line: int, last: bool) -> Parsed:
        layout = _Layout.of(data, last)
        if layout is not None and layout.size == 0 and len(data) < 4 * blocks.BLOCK:
            return Parsed(Batch(pl.DataFrame()), 0, 0)
        fast = self._fast(data[: layout.size], layout, line) if layout and layout.size else None
        return fast or self._slow(data, line, last)

    def _fast(self, data: bytes, layout: _Layout, line: int) -> Parsed | None:
        fitting = layout.commas == len(self.names) - 1
        if len(self.names) == 1 or b"\0" in data or layout.lengths.max(initial=0) > csv.field_size_limit():
            return None
        bad, good = [], data
        if not fitting.all():
            for place in np.flatnonzero(~fitting):
                start = int(layout.starts[place])
                text = data[start : start + int(layout.lengths[place])].decode(errors="surrogateescape")
                if text.strip():
                    bad.append((line + int(layout.line_of[place]), fault(text) or self.ragged))
            good = layout.buffer[np.repeat(fitting, layout.lengths)].tobytes()
        frame = self._frame(good, b'"' in good)
        if frame is None or frame.height != fitting.sum():
            return None
        numbers = pl.Series(ROW, line + layout.line_of[fitting], pl.Int64)
        return Parsed(Batch(frame.with_columns(numbers), bad), len(data), layout.line_ends)

    def _frame(self, data: bytes, quoted: bool) -> pl.DataFrame | None:
        if not data:
            return pl.DataFrame(schema=self.schema)
        quote = '"' if quoted else None
        if not self.nulls:
            try:
                frame = pl.read_csv(data, has_header=False, schema=self.schema, quote_char=quote)
                return _without_empty(frame) if b'""' in data else frame
            except pl.exceptions.PolarsError:
                pass  # A value that is no number: the columns are read as texts, and each value judged alone.
        try:
            texts = pl.read_csv(data, has_header=False, schema=dict.fromkeys(self.names, pl.String), quote_char=quote)
        except pl.exceptions.PolarsError:
            return None
        return typed(texts, self.numeric, self.nulls)

    def _slow(self, data: bytes, line: int, last: bool) -> Parsed:
        block = lines.split(data[: blocks.whole_lines(data, last)])
        whole = last or len(data) >= 4 * blocks.BLOCK
        rows: dict[str, list[str | None]] = {name: [] for name in self.names}
        numbers, bad, end = [], [], 0
        for record in lines.records(block, whole=whole):
            end = record.end
            if isinstance(record.fields, str):
                bad.append((line + record.at, record.fields))
            elif record.fields and len(record.fields) != len(self.names):
                bad.append((line + record.at, self.ragged))
            elif record.fields:
                numbers.append(line + record.at)
                for column, value in zip(rows.values(), record.fields, strict=True):
                    column.append(value)
        texts = pl.DataFrame(rows, schema=dict.fromkeys(self.names, pl.String))
        frame = typed(texts.with_columns(pl.Series(ROW, numbers, pl.Int64)), self.numeric, self.nulls)
        return Parsed(Batch(frame, bad), lines.size(block[:end]), end)


def _without_empty(frame: pl.DataFrame) -> pl.DataFrame:
    """Missing values in place of empty texts."""
    return frame.with_columns(pl.when(pl.col(pl.String) != "").then(pl.col(pl.String)))


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the records of a block stand; quotes that open and close as RFC 4180 has them are taken into account."""

    buffer: Bytes
    size: int
    """Bytes of whole records."""
    starts: Places
    lengths: Places
    commas: Places
    line_of: Places
    """The line of a record's start, from 0."""
    line_ends: int

    @classmethod
    def of(cls, data: bytes, last: bool) -> Self | None:
        """None where it cannot be told at once."""
        buffer = np.frombuffer(data, np.uint8)
        quotes = places(buffer, QUOTE) if b'"' in data else np.empty(0, np.int64)
        newlines = places(buffer, NEWLINE)
        ends = newlines[np.searchsorted(quotes, newlines) % 2 == 0] if quotes.size else newlines
        if last and (not ends.size or ends[-1] != len(data) - 1):
            ends = np.append(ends, len(data) - 1)
        size = int(ends[-1]) + 1 if ends.size else 0
        quotes = quotes[quotes < size]
        buffer = buffer[:size]
        if blocks.has_lone_return(data[:size], buffer) or not _well_placed(buffer, quotes):
            return None
        commas = places(buffer, COMMA)
        if quotes.size:
            commas = commas[np.searchsorted(quotes, commas) % 2 == 0]
        newlines = newlines[newlines < size]
        starts = np.concatenate([np.zeros(min(1, ends.size), np.int64), ends[:-1] + 1])
        per_record = np.diff(np.searchsorted(commas, ends, side="right"), prepend=0)
        line_of = np.searchsorted(newlines, starts)
        return cls(buffer, size, starts, ends + 1 - starts, per_record, line_of, newlines.size)


def _well_placed(buffer: Bytes, quotes: Places) -> bool:
    """Whether each quote opens behind a comma or line end and closes before one, or stands for itself as a pair."""
    if quotes.size % 2:
        return False
    opening, closing = quotes[::2], quotes[1::2]
    before = buffer[np.maximum(opening - 1, 0)]
    behind = buffer[np.minimum(closing + 1, len(buffer) - 1)]
    opens = (opening == 0) | np.isin(before, (COMMA, NEWLINE, QUOTE))
    closes = (closing == len(buffer) - 1) | np.isin(behind, (COMMA, NEWLINE, blocks.RETURN, QUOTE))
    return bool(opens.all() and closes.all())
