"""The pieces of a folder of images put together, as if they had been looked at in one go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.image_steps import Judge
from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.images.looking import PIXELS, Look, looks
from sextant_shared.contracts.cleaning import Step
from sextant_shared.errors import InvalidInput

Pixels = NDArray[np.uint8]
CHANNELS = {"L": 1, "RGB": 3}


@dataclass(frozen=True, slots=True)
class Held:
    """An image that stays: its number in the folder, and where its pixels are."""

    number: int
    label: str
    piece: int
    at: int
    channels: int


class Files:
    """The pieces' pixels, mapped one piece at a time."""

    def __init__(self, directories: Sequence[Path]) -> None:
        self._directories = directories
        self._open: tuple[int, Any] | None = None

    def of(self, piece: int) -> Any:
        """The bytes of a piece."""
        if self._open is None or self._open[0] != piece:
            self._open = piece, np.memmap(self._directories[piece] / PIXELS, np.uint8, "r")
        return self._open[1]


@dataclass(slots=True)
class Gathered:
    """The images that stay, in the order of their paths, and what became of the others."""

    files: Files
    size: tuple[int, int]
    held: list[Held] = field(default_factory=list)
    quarantine: Quarantine = field(default_factory=Quarantine)
    removed: list[tuple[int, str, str]] = field(default_factory=list)
    """Those that a step left out: number, step, reason."""
    flagged: dict[str, int] = field(default_factory=dict)
    total: int = 0
    channels: int = 1
    """Three where one of those that stay is in colours."""
    splits: list[str] | None = None
    """Of those that stay, where the folders say them."""

    @property
    def labels(self) -> list[str]:
        """The names of their classes."""
        return [image.label for image in self.held]

    @property
    def ids(self) -> NDArray[np.int64]:
        """Their numbers in the folder."""
        return np.array([image.number for image in self.held], np.int64)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        return self.channels, self.size[1], self.size[0]

    def pixels(self, rows: Sequence[int]) -> Pixels:
        """(len(rows), channels, height, width)."""
        channels, height, width = self.shape
        found = np.empty((len(rows), channels, height, width), np.uint8)
        for place, row in enumerate(rows):
            image = self.held[row]
            one = self.files.of(image.piece)[image.at : image.at + image.channels * height * width]
            found[place] = one.reshape(image.channels, height, width)
        return found


def gather(directories: Sequence[Path], paths: Sequence[str], size: tuple[int, int], steps: Sequence[Step]) -> Gathered:
    """What the pieces in these directories hold; `paths` are those of all their images, in order.

    Raises InvalidInput where none is left.
    """
    judge = Judge(list(steps))
    found = Gathered(Files(directories), size)
    for number, (piece, look) in enumerate(_all(directories)):
        found.total += 1
        if look.why is not None:
            found.quarantine.add(number, look.why)
        elif (out := judge.leaves_out(look.signs, look.label)) is not None:
            found.removed.append((number, *out))
        else:
            found.held.append(Held(number, look.label, piece, look.at, CHANNELS[look.mode]))
            found.channels = max(found.channels, CHANNELS[look.mode])
    found.flagged = judge.flagged
    if not found.held and not found.removed:
        found.quarantine.check(found.total, 0.0)
    if not found.held:
        raise InvalidInput("the steps leave no image", field="clean", accepted="wider limits")
    given = splitting.of_folders([PurePath(path) for path in paths])
    found.splits = [given[image.number] for image in found.held] if given else None
    return found


def _all(directories: Sequence[Path]) -> Iterator[tuple[int, Look]]:
    for piece, directory in enumerate(directories):
        for look in looks(directory):
            yield piece, look
