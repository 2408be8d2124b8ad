"""Where prepared rows go: Arrow files a split, in shards and record batches of fixed numbers of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

SHARD_ROWS = 1 << 20
BATCH_ROWS = 1 << 16


class SplitWriter:
    """Writes one split. How its rows arrive leaves no trace in the files: the same rows make the same bytes."""

    def __init__(self, directory: Path, split: str, schema: pa.Schema) -> None:
        """Files are called `directory`/`split`-NNNNN.arrow; there is one at least."""
        self._directory, self._split, self._schema = directory, split, schema
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self.files: list[str] = []
        self.rows = 0
        self._writer: pa.ipc.RecordBatchFileWriter | None = None

    def add(self, table: pa.Table) -> None:
        """Append rows."""
        self._waiting.append(table.cast(self._schema))
        self._waiting_rows += len(table)
        while self._waiting_rows >= BATCH_ROWS:
            self._write(BATCH_ROWS)

    def close(self) -> None:
        """Write what is left, and end the last file."""
        if self._waiting_rows or not self.files:
            self._write(self._waiting_rows)
        if self._writer is not None:
            self._writer.close()

    def digests(self) -> Iterator[bytes]:
        """The SHA-256 of each file."""
        for name in self.files:
            with (self._directory / name).open("rb") as stream:
                yield hashlib.file_digest(stream, "sha256").digest()

    def _write(self, rows: int) -> None:
        if self.rows % SHARD_ROWS == 0:
            self._next()
        table = pa.concat_tables([self._schema.empty_table(), *self._waiting])
        head, rest = table.slice(0, rows), table.slice(rows)
        assert self._writer is not None  # noqa: S101
        self._writer.write_table(head.combine_chunks())
        self._waiting, self._waiting_rows = ([rest] if len(rest) else []), len(rest)
        self.rows += rows

    def _next(self) -> None:
        if self._writer is not None:
            self._writer.close()
        name = f"{self._split}-{len(self.files):05d}.arrow"
        self._writer = pa.ipc.new_file(str(self._directory / name), self._schema)
        self.files.append(name)
