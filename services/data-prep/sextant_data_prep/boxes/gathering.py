"""The pieces of a folder of images with boxes put together, as if they had been looked at in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sextant_data_prep.boxes.finding import Row
from sextant_data_prep.boxes.looking import Look
from sextant_data_prep.images.stored import Stored, looks

Boxes = NDArray[np.float32]


@dataclass(slots=True)
class Gathered:
    """The rows that could be read, in the order of their paths, and what is wrong with the others."""

    stored: Stored
    rows: list[Row]
    """All of the folder."""
    numbers: list[int] = field(default_factory=list)
    """Of those that could be read, among all."""
    boxes: list[Boxes] = field(default_factory=list)
    """(n, 4) of each."""
    names: list[list[str]] = field(default_factory=list)
    """The classes of these boxes."""
    bad: list[tuple[int, str]] = field(default_factory=list)

    def keep(self, places: Sequence[int]) -> None:
        """Forget all but these of the rows that could be read."""
        self.stored.keep(places)
        self.numbers, self.boxes, self.names = (
            [self.numbers[place] for place in places],
            [self.boxes[place] for place in places],
            [self.names[place] for place in places],
        )


def gather(directories: Sequence[Path], rows: list[Row], size: tuple[int, int]) -> Gathered:
    """What the pieces in these directories hold of `rows`, which are all of the folder, in order."""
    found = Gathered(Stored(directories, size, len(rows[0].images)), rows)
    for number, (piece, look) in enumerate(looks(directories, Look)):
        if look.why is not None:
            found.bad.append((number, look.why))
            continue
        found.stored.add(piece, look)
        found.numbers.append(number)
        found.boxes.append(np.array(look.boxes, np.float32).reshape(-1, 4))
        found.names.append(look.names)
    return found
