"""Cleaned rows on disk between the passes over them, in the order of the source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_shared.errors import InvalidInput

LABEL = "\0label"
"""The column of label codes; see `readers.batch.ROW` for the name."""
MAX_CLASSES = 100_000


class Staging:
    """Frames as Arrow files. Their columns may differ: those of JSON lines come as they come."""

    def __init__(self, directory: Path) -> None:
        """The directory must exist, and be empty."""
        self._directory = directory
        self._parts: list[Path] = []
        self.rows = 0
        self.columns: dict[str, pl.DataType] = {}

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows."""
        if frame.is_empty():
            return
        path = self._directory / f"{len(self._parts):06d}.arrow"
        frame.write_ipc(path, compression="uncompressed")
        self._parts.append(path)
        self.rows += len(frame)
        self.columns.update(frame.schema)

    def parts(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """The frames with the number of their first row, in order; columns that one lacks are missing values."""
        first = 0
        for path in self._parts:
            frame = pl.read_ipc(path)
            lacking = [pl.lit(None, dtype).alias(name) for name, dtype in self.columns.items() if name not in frame]
            yield first, frame.with_columns(lacking) if lacking else frame
            first += len(frame)


class Labels:
    """Label texts and their codes, in the order in which they came."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def encode(self, labels: pl.Series) -> NDArray[np.int32]:
        """The codes of labels. Raises InvalidInput for more different ones than classes may be."""
        distinct = labels.unique(maintain_order=True)
        for label in distinct:
            self._codes.setdefault(label, len(self._codes))
        if len(self._codes) > MAX_CLASSES:
            raise InvalidInput(
                f"the target has over {MAX_CLASSES} different values", field="target", accepted="a column of classes"
            )
        codes = [self._codes[label] for label in distinct]
        return labels.replace_strict(distinct, codes, return_dtype=pl.Int32).to_numpy()

    def classes(self) -> tuple[list[str], NDArray[np.int64]]:
        """The sorted labels, and for each code its place among them. Raises InvalidInput for fewer than two."""
        names = sorted(self._codes)
        if len(names) < 2:
            given = f"all rows have the same label {names[0][:80]!r}" if names else "no row has a label"
            raise InvalidInput(f"{given}; there is nothing to learn", field="target", accepted="two classes or more")
        place = {name: number for number, name in enumerate(names)}
        return names, np.array([place[name] for name in self._codes], np.int64)
