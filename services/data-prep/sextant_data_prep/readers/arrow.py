"""Arrow files, and Arrow streams as Hugging Face's `datasets` saves them: mapped into memory, not read into it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa

from sextant_data_prep.damage import Damaged, decoding
from sextant_data_prep.readers import columnar
from sextant_data_prep.readers.batch import Batch
from sextant_shared.errors import InvalidInput

MAGIC = b"ARROW1"
END = b"\xff\xff\xff\xff" + bytes(4)
"""How a stream ends. The format lets one end without, but then one that was cut off could not be told from a whole."""


def read(path: Path, numeric: Collection[str] = (), nulls: Collection[str] = ()) -> Iterator[Batch]:
    """The rows of a file, numbered from 1. Raises InvalidInput for a damaged one, and columns of other types."""
    try:
        with decoding(pa.ArrowException), pa.memory_map(str(path)) as mapped:
            opened = _opened(mapped)
            columnar.check_schema(opened.schema)
            yield from columnar.batches(opened.schema, _parts(opened), numeric, nulls)
    except Damaged as error:
        why = str(error).splitlines()[0][:200] if str(error) else "it is damaged"
        raise InvalidInput(f"the Arrow file cannot be read: {why}", field="source", accepted="whole files") from None


def _opened(mapped: pa.MemoryMappedFile) -> pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader:
    if mapped.read(len(MAGIC)) == MAGIC:
        return pa.ipc.open_file(mapped)
    mapped.seek(max(0, mapped.size() - len(END)))
    if mapped.read() != END:
        raise ValueError("it ends too early, or is no Arrow file")
    mapped.seek(0)
    return pa.ipc.open_stream(mapped)


def _parts(opened: pa.ipc.RecordBatchFileReader | pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    """The record batches in parts of a bounded number of rows."""
    if isinstance(opened, pa.ipc.RecordBatchFileReader):
        whole = (opened.get_batch(number) for number in range(opened.num_record_batches))
    else:
        whole = iter(opened)
    for batch in whole:
        # Offsets in a mapped file lead wherever they say.
        batch.validate(full=True)
        for first in range(0, batch.num_rows, columnar.ROWS):
            yield batch.slice(first, columnar.ROWS)
