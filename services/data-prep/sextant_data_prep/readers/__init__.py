"""Readers: a source of rows as batches of bounded size, whatever its form."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sextant_data_prep.readers import arrow, csv_blocks, json_blocks, parquet
from sextant_data_prep.readers.batch import Reader
from sextant_shared.errors import InvalidInput

BY_SUFFIX = {
    ".csv": csv_blocks.read,
    ".jsonl": json_blocks.read,
    ".ndjson": json_blocks.read,
    ".parquet": parquet.read,
    ".arrow": arrow.read,
}


def reader(path: Path, begin: int = 0, end: int | None = None) -> Reader:
    """The reader of a file, by its name. Raises InvalidInput where there is none.

    `begin` and `end` are for a part of a file: bytes, row groups of Parquet, or record batches of Arrow.
    """
    read = BY_SUFFIX.get(path.suffix.lower())
    if read is None:
        raise InvalidInput(f"no reader for {path.name[:80]!r}", field="source", accepted=", ".join(BY_SUFFIX))
    return partial(read, path, begin=begin, end=end) if begin or end is not None else partial(read, path)
