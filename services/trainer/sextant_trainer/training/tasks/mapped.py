"""Columns of Arrow files as they lie on disk: mapped, gathered row by row, and never held as a whole."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

PAGE = mmap.PAGESIZE
LARGE = 1 << 30
"""Bytes of a set from which on its pages are given back: those of smaller ones may all stay."""
HELD = 16 << 20
"""Bytes that were looked at, by the page, after which these are given back; the kernel maps up to 16 times as many."""


class Files:
    """The files of one split, mapped once for all of its columns."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._maps: list[mmap.mmap] = []
        self.batches: list[pa.RecordBatch] = []
        for path in paths:
            with path.open("rb") as stream:
                mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps.append(mapped)
            reader = pa.ipc.open_file(pa.py_buffer(mapped))
            self.batches += [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self._held = 0
        self._large = sum(map(len, self._maps)) >= LARGE
        if self._large:
            # The order is a shuffled one: what stands beside a row is not what comes next.
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_RANDOM)

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(batch.num_rows for batch in self.batches)

    def looked_at(self, rows: int, row_bytes: int) -> None:
        """Rows anywhere were read: give pages back where they have become too many. They stay in the kernel's cache."""
        self._held += rows * (row_bytes + PAGE)
        if self._large and self._held > HELD:
            for mapped in self._maps:
                mapped.madvise(mmap.MADV_DONTNEED)
            self._held = 0


class Mapped:
    """A column of numbers, or of lists of `shape` of them, indexed like an array by the numbers of rows."""

    def __init__(self, files: Files, name: str, shape: tuple[int, ...] = ()) -> None:
        self._files, self.shape = files, shape
        self._parts = [part for batch in files.batches if len(part := _view(batch.column(name), shape))]
        self._starts = np.cumsum([0, *map(len, self._parts)])
        kind = self._parts[0] if self._parts else np.empty((0, *shape), np.int64)
        self.dtype: np.dtype[Any] = kind.dtype
        self._row_bytes = int(np.prod(shape, dtype=np.int64)) * self.dtype.itemsize

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """A copy of rows in any order, (len(rows), *shape). Raises IndexError for one that there is not."""
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(self):
            raise IndexError(f"rows from {rows.min()} to {rows.max()} of {len(self)}")
        if len(self._parts) == 1:
            found: NDArray[Any] = self._parts[0][rows]
        else:
            found = np.empty((len(rows), *self.shape), self.dtype)
            places = np.searchsorted(self._starts, rows, side="right") - 1
            order = np.argsort(places, kind="stable")
            edges = np.flatnonzero(np.diff(places[order], prepend=-1, append=len(self._parts)))
            for begin, end in pairwise(edges):
                at = order[begin:end]
                part = places[at[0]]
                found[at] = self._parts[part][rows[at] - self._starts[part]]
        self._files.looked_at(len(rows), self._row_bytes)
        return found

    def parts(self) -> Iterator[NDArray[Any]]:
        """The rows in order, in pieces that are views."""
        for part in self._parts:
            yield part
            self._files.looked_at(len(part) * self._row_bytes // PAGE, PAGE)


def _view(column: pa.Array, shape: tuple[int, ...]) -> NDArray[Any]:
    flat = column.flatten() if shape else column
    array: NDArray[Any] = flat.to_numpy(zero_copy_only=True)
    return array.reshape(len(column), *shape)
