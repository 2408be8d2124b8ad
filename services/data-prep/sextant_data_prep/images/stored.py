"""What a piece of images leaves in a directory: the pixels of each row, and a line of what was seen of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

LOOKS, PIXELS = "looks.jsonl", "pixels.bin"
COLOURS = {"L": 1, "RGB": 3}
Pixels = NDArray[np.uint8]


class Look(BaseModel):
    """One row: why it is of no use, or where its pixels are."""

    why: str | None = None
    mode: Literal["L", "RGB"] = "L"
    at: int = 0
    """Where its pixels begin in the piece's file: channels, height, width, a byte each."""


Seen = TypeVar("Seen", bound=Look)


def record(out: Path, rows: Iterable[tuple[Look, Pixels | None]]) -> None:
    """Write rows and their pixels to `out` as they come."""
    out.mkdir(parents=True, exist_ok=True)
    at = 0
    with (out / LOOKS).open("w", encoding="utf-8") as looks, (out / PIXELS).open("wb") as kept:
        for look, pixels in rows:
            looks.write(look.model_copy(update={"at": at}).model_dump_json(exclude_defaults=True) + "\n")
            if pixels is not None:
                at += kept.write(pixels.tobytes())


def looks(directories: Sequence[Path], kind: type[Seen]) -> Iterator[tuple[int, Seen]]:
    """What was seen of all rows of all pieces in order, each with the number of its piece."""
    for piece, directory in enumerate(directories):
        with (directory / LOOKS).open(encoding="utf-8") as lines:
            for line in lines:
                yield piece, kind.model_validate_json(line)


@dataclass(frozen=True, slots=True)
class Place:
    """Where the pixels of a row are."""

    piece: int
    at: int
    colours: int


class Stored:
    """The pixels of the rows that stay, `images` of one size (width, height) a row. They are mapped piece by piece."""

    def __init__(self, directories: Sequence[Path], size: tuple[int, int], images: int = 1) -> None:
        self._directories, self._images = directories, images
        self._places: list[Place] = []
        self._open: tuple[int, Any] | None = None
        self._side = size
        self.colours = 1
        """Channels of an image: three where one of a row that stays is in colours, else one."""

    def __len__(self) -> int:
        return len(self._places)

    def add(self, piece: int, look: Look) -> None:
        """One more row."""
        colours = COLOURS[look.mode]
        self._places.append(Place(piece, look.at, colours))
        self.colours = max(self.colours, colours)

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all but these rows."""
        self._places = [self._places[row] for row in rows]
        self.colours = max((place.colours for place in self._places), default=1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels of all images of a row, height, width."""
        return self.colours * self._images, self._side[1], self._side[0]

    def pixels(self, rows: Sequence[int]) -> Pixels:
        """(len(rows), channels, height, width)."""
        found = np.empty((len(rows), *self.shape), np.uint8)
        for place, row in enumerate(rows):
            found[place] = self._of(self._places[row])
        return found

    def _of(self, place: Place) -> Pixels:
        if self._open is None or self._open[0] != place.piece:
            self._open = place.piece, np.memmap(self._directories[place.piece] / PIXELS, np.uint8, "r")
        _, height, width = self.shape
        channels = place.colours * self._images
        one: Pixels = self._open[1][place.at : place.at + channels * height * width].reshape(channels, height, width)
        return one.repeat(self.colours // place.colours, 0)
