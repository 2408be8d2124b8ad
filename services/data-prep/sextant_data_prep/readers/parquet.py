"""Parquet: row groups in batches; types as the file has them, brought to texts and numbers as from any source."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from sextant_data_prep.damage import Damaged, decoding
from sextant_data_prep.readers.batch import ROW, Batch, check, typed
from sextant_shared.errors import InvalidInput

ROWS = 65_536
MAX_GROUP = 4 * 2**30
"""Bytes that a row group may have when unpacked: a page is unpacked whole, whatever the batch."""
BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
REFUSED = (*BINARY, pa.types.is_nested, pa.types.is_duration)
ACCEPTED = "columns of numbers, texts, true and false, dates and times"


def read(path: Path, numeric: Collection[str] = (), nulls: Collection[str] = ()) -> Iterator[Batch]:
    """The rows of a file, numbered from 1. Raises InvalidInput for a damaged one, and columns of other types."""
    try:
        with decoding(pa.ArrowException), pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check(file)
            yield from _batches(file, numeric, nulls)
    except Damaged as error:
        why = str(error).splitlines()[0][:200] if str(error) else "it is damaged"
        raise InvalidInput(f"the Parquet file cannot be read: {why}", field="source", accepted="whole files") from None


def _check(file: pq.ParquetFile) -> None:
    schema = file.schema_arrow
    check(schema.names)
    for field in schema:
        if any(refused(field.type) for refused in REFUSED):
            raise InvalidInput(
                f"column {field.name[:80]!r} is of type {str(field.type)[:80]}", field="source", accepted=ACCEPTED
            )
    if len(set(schema.names)) != len(schema):
        raise InvalidInput("two columns have the same name", field="source", accepted="unique names")
    groups = (file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups))
    if max(groups, default=0) > MAX_GROUP:
        raise InvalidInput(
            f"a row group unpacks to more than {MAX_GROUP} bytes", field="source", accepted="smaller row groups"
        )


def _batches(file: pq.ParquetFile, numeric: Collection[str], nulls: Collection[str]) -> Iterator[Batch]:
    texts = pl.DataFrame(schema=dict.fromkeys(file.schema_arrow.names, pl.String) | {ROW: pl.Int64})
    yield Batch(typed(texts, numeric, nulls))
    first = 1
    for part in file.iter_batches(batch_size=ROWS, use_threads=True):
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([part])))
        frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
        bad, frame = _without_nul(frame.with_columns(pl.int_range(first, first + len(frame), eager=True).alias(ROW)))
        yield Batch(typed(frame, numeric, nulls), bad)
        first += part.num_rows


def _without_nul(frame: pl.DataFrame) -> tuple[list[tuple[int, str]], pl.DataFrame]:
    """Take out the rows with NUL, which no database takes."""
    words = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    if not words:
        return [], frame
    holds = [pl.col(name).str.contains("\0", literal=True).fill_null(value=False) for name in words]
    nul = frame.select(pl.any_horizontal(holds)).to_series()
    return [(row, "holds NUL") for row in frame[ROW].filter(nul)], frame.filter(~nul)
