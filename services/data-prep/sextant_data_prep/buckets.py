"""Keys of all rows on disk, in order of the key, a part at a time: sorting that memory does not limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import numpy as np
from numpy.typing import NDArray

ENTRY = np.dtype([("key", np.uint64), ("row", np.int64), ("label", np.int32)])
Entries = NDArray[np.void]
BITS = 6


class Buckets:
    """Entries (key, row, label) by the highest bits of the key. Written batch by batch, then read bucket by bucket."""

    def __init__(self, directory: Path, name: str) -> None:
        """The files are `directory`/`name`-NN; made when the first entry comes."""
        self._paths = [directory / f"{name}-{number:02d}" for number in range(1 << BITS)]
        self._files: list[IO[bytes]] = []
        self._stack = ExitStack()
        self._sorted = False

    def __enter__(self) -> Self:
        self._files = [self._stack.enter_context(path.open("wb")) for path in self._paths]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, keys: NDArray[np.uint64], first_row: int, labels: NDArray[np.int32]) -> None:
        """Take in rows that are numbered from `first_row` on."""
        entries = np.empty(len(keys), ENTRY)
        entries["key"], entries["label"] = keys, labels
        entries["row"] = np.arange(first_row, first_row + len(keys))
        places = (keys >> np.uint64(64 - BITS)).astype(np.uint8)
        entries = entries[np.argsort(places, kind="stable")]
        ends = np.cumsum(np.bincount(places, minlength=len(self._files)))
        for file, part in zip(self._files, np.split(entries, ends[:-1]), strict=True):
            file.write(part.tobytes())

    def parts(self) -> Iterator[Entries]:
        """All entries by key, then by row, one bucket at a time; for after the end of writing."""
        for path in self._paths:
            entries = np.fromfile(path, ENTRY)
            if not self._sorted:
                # Rows were added in their order, and a stable sort keeps it.
                entries = entries[np.argsort(entries["key"], kind="stable")]
                entries.tofile(path)
            yield entries
        self._sorted = True
