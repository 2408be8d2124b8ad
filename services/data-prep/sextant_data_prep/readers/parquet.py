"""Parquet: row groups in batches."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sextant_data_prep.readers import columnar
from sextant_data_prep.readers.batch import Batch
from sextant_shared.damage import Damaged, decoding
from sextant_shared.errors import InvalidInput

MAX_GROUP = 4 * 2**30
"""Bytes that a row group may have when unpacked: a page is unpacked whole, whatever the batch."""


def read(
    path: Path,
    numeric: Collection[str] = (),
    nulls: Collection[str] = (),
    *,
    begin: int = 0,
    end: int | None = None,
) -> Iterator[Batch]:
    """The rows of a file, or of its row groups [begin, end), numbered from 1.

    Raises InvalidInput for a damaged one, and columns of other types.
    """
    try:
        with decoding(pa.ArrowException), pq.ParquetFile(path, page_checksum_verification=True) as file:
            columnar.check_schema(file.schema_arrow)
            _check_groups(file)
            groups = list(range(file.num_row_groups))[begin:end]
            found = file.iter_batches(batch_size=columnar.ROWS, row_groups=groups, use_threads=True)
            yield from columnar.batches(file.schema_arrow, found, numeric, nulls)
    except Damaged as error:
        raise _unreadable(error) from None


def sizes(path: Path) -> list[int]:
    """The bytes of each row group. Raises InvalidInput for a damaged file."""
    try:
        with decoding(pa.ArrowException), pq.ParquetFile(path) as file:
            return [file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups)]
    except Damaged as error:
        raise _unreadable(error) from None


def _unreadable(error: Damaged) -> InvalidInput:
    why = str(error).splitlines()[0][:200] if str(error) else "it is damaged"
    return InvalidInput(f"the Parquet file cannot be read: {why}", field="source", accepted="whole files")


def _check_groups(file: pq.ParquetFile) -> None:
    groups = (file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups))
    if max(groups, default=0) > MAX_GROUP:
        raise InvalidInput(
            f"a row group unpacks to more than {MAX_GROUP} bytes", field="source", accepted="smaller row groups"
        )
