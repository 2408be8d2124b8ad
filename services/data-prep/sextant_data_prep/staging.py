"""Cleaned rows on disk between the passes over them, in the order of the source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from sextant_shared.errors import InvalidInput

LABEL = "\0label"
"""The column of label codes; see `readers.batch.ROW` for the name."""
MAX_CLASSES = 100_000


def staged(directory: Path, number: int) -> Path:
    """Where the frame with this number lies."""
    return directory / f"{number:06d}.arrow"


class Staging:
    """Frames as Arrow files. Their columns may differ: those of JSON lines come as they come."""

    def __init__(self, directory: Path) -> None:
        """The directory must exist, and be empty."""
        self._directory = directory
        self.rows: list[int] = []
        """Of each frame."""

    def add(self, frame: pl.DataFrame) -> None:
        """Append rows."""
        if not frame.is_empty():
            frame.write_ipc(staged(self._directory, len(self.rows)), compression="uncompressed")
            self.rows.append(len(frame))


class Labels:
    """Label texts and their codes, in the order in which they came."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The text of each code."""
        return list(self._codes)

    def encode(self, labels: pl.Series) -> NDArray[np.int32]:
        """The codes of labels. Raises InvalidInput for more different ones than classes may be."""
        distinct = labels.unique(maintain_order=True)
        codes = self.absorb(distinct.to_list())
        return labels.replace_strict(distinct, codes, return_dtype=pl.Int32).to_numpy()

    def absorb(self, names: list[str]) -> NDArray[np.int32]:
        """The codes of different labels; likewise."""
        codes = [self._codes.setdefault(name, len(self._codes)) for name in names]
        if len(self._codes) > MAX_CLASSES:
            raise InvalidInput(
                f"the target has over {MAX_CLASSES} different values", field="target", accepted="a column of classes"
            )
        return np.array(codes, np.int32)

    def classes(self) -> tuple[list[str], NDArray[np.int64]]:
        """The sorted labels, and for each code its place among them. Raises InvalidInput for fewer than two."""
        names = sorted(self._codes)
        if len(names) < 2:
            given = f"all rows have the same label {names[0][:80]!r}" if names else "no row has a label"
            raise InvalidInput(f"{given}; there is nothing to learn", field="target", accepted="two classes or more")
        place = {name: number for number, name in enumerate(names)}
        return names, np.array([place[name] for name in self._codes], np.int64)
