"""Arrow files, and Arrow streams as Hugging Face's `datasets` saves them: mapped into memory, not read into it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from sextant_data_prep.readers import columnar
from sextant_data_prep.readers.batch import Batch
from sextant_shared.damage import Damaged, decoding
from sextant_shared.errors import InvalidInput

MAGIC = b"ARROW1"
END = b"\xff\xff\xff\xff" + bytes(4)
"""How a stream ends. The format lets one end without, but then one that was cut off could not be told from a whole."""


def read(
    path: Path,
    numeric: Collection[str] = (),
    nulls: Collection[str] = (),
    *,
    begin: int = 0,
    end: int | None = None,
) -> Iterator[Batch]:
    """The rows of a file, or of its record batches [begin, end), numbered from 1.

    Raises InvalidInput for a damaged one, and columns of other types.
    """
    try:
        with decoding(pa.ArrowException), pa.memory_map(str(path)) as mapped:
            opened = _opened(mapped)
            columnar.check_schema(opened.schema)
            yield from columnar.batches(opened.schema, _parts(opened, begin, end), numeric, nulls)
    except Damaged as error:
        raise _unreadable(error) from None


def sizes(path: Path) -> list[int]:
    """The bytes of each record batch. Raises InvalidInput for a damaged file."""
    try:
        with decoding(pa.ArrowException), pa.memory_map(str(path)) as mapped:
            return [batch.get_total_buffer_size() for batch in _batches(_opened(mapped))]
    except Damaged as error:
        raise _unreadable(error) from None


def _unreadable(error: Damaged) -> InvalidInput:
    why = str(error).splitlines()[0][:200] if str(error) else "it is damaged"
    return InvalidInput(f"the Arrow file cannot be read: {why}", field="source", accepted="whole files")


def _opened(mapped: pa.MemoryMappedFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    if mapped.read(len(MAGIC)) == MAGIC:
        return pa.ipc.open_file(mapped)
    mapped.seek(max(0, mapped.size() - len(END)))
    if mapped.read() != END:
        raise ValueError("it ends too early, or is no Arrow file")
    mapped.seek(0)
    return pa.ipc.open_stream(mapped)


def _batches(
    opened: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader, begin: int = 0, end: int | None = None
) -> Iterator[pa.RecordBatch]:
    if isinstance(opened, pa.ipc.RecordBatchFileReader):
        return (opened.get_batch(number) for number in range(opened.num_record_batches)[begin:end])
    return islice(opened, begin, end)


def _parts(
    opened: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader, begin: int, end: int | None
) -> Iterator[pa.RecordBatch]:
    """The record batches in parts of a bounded number of rows."""
    for batch in _batches(opened, begin, end):
        # Offsets in a mapped file lead wherever they say.
        batch.validate(full=True)
        for first in range(0, batch.num_rows, columnar.ROWS):
            yield batch.slice(first, columnar.ROWS)
