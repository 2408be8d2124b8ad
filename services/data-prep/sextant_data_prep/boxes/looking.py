"""Looking at the rows of one piece: their images decoded and brought to one size, their boxes read and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sextant_data_prep import listing
from sextant_data_prep.boxes import parsing
from sextant_data_prep.boxes.finding import Row
from sextant_data_prep.domain.marks import checked, renamed
from sextant_data_prep.images import stored
from sextant_data_prep.images.decoding import array, decode
from sextant_data_prep.images.looking import UNREADABLE
from sextant_data_prep.images.stored import Pixels
from sextant_shared.contracts.annotations import Annotations
from sextant_shared.damage import Damaged, decoding

Say = Callable[[float, str], None]


class Look(stored.Look):
    """One row: why it is of no use, or its boxes in pixels of what is kept, and the names of their classes."""

    boxes: list[tuple[float, float, float, float]] = []
    names: list[str] = []


def look(root: Path, rows: Sequence[Row], boxes: Annotations, size: tuple[int, int], out: Path, say: Say) -> None:
    """Look at these rows of the folder `root`, and write what was seen to `out`."""
    stored.record(out, _looks(root, rows, boxes, size, say))


def _looks(
    root: Path, rows: Sequence[Row], boxes: Annotations, size: tuple[int, int], say: Say
) -> Iterator[tuple[Look, Pixels | None]]:
    marks_of = parsing.reader(root, boxes)
    for number, row in enumerate(rows):
        try:
            images = _images(root, row)
            width, height = images[-1].size
            marks = marks_of(row, width, height)
            sides, names = checked(marks, width, height), renamed(marks, boxes.classes)
        except Damaged as error:
            yield Look(why=str(error)), None
        else:
            scale = np.array([size[0] / width, size[1] / height] * 2, np.float32)
            mode = "RGB" if any(image.mode == "RGB" for image in images) else "L"
            look = Look(mode=mode, boxes=(sides * scale).tolist(), names=names)
            yield look, np.concatenate([array(image, mode, size) for image in images])
        if number % 100 == 0:
            say(0.05 + 0.4 * number / len(rows), "looking at images")


def _images(root: Path, row: Row) -> list[Image.Image]:
    """Its images. Raises Damaged where one is missing, cannot be decoded, or has another size than the others."""
    found = []
    for name in row.images:
        path = listing.held(root, name)
        if path is None:
            raise Damaged("an image of it is not there")
        try:
            with decoding(Image.DecompressionBombError):
                found.append(decode(path))
        except Damaged:
            raise Damaged(UNREADABLE) from None
    if len({image.size for image in found}) > 1:
        raise Damaged("its images have different sizes")
    return found
