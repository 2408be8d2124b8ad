"""The images of rows, stacked as channels, on disk until it is known which split they go to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sextant_data_prep.boxes.finding import Row
from sextant_data_prep.images.decoding import DEEP, array, decode
from sextant_shared.damage import Damaged, decoding

Pixels = NDArray[np.uint8]
UNREADABLE = "cannot be decoded"


class Stack:
    """Rows of images of one size, (rows, channels, height, width), kept at `scratch`."""

    def __init__(self, root: Path, rows: Sequence[Row], size: tuple[int, int] | None, scratch: Path) -> None:
        """The size is `size` (width, height), or the most frequent one as it is: boxes of small defects need pixels."""
        self._root = root
        sizes, modes = _headers(root, rows)
        self.mode = "RGB" if "RGB" in modes else "L"
        self.each = 3 if self.mode == "RGB" else 1
        """Channels of one image."""
        self.size = size or (sizes.most_common(1)[0][0] if sizes else (1, 1))
        images_of_row = len(rows[0].images)
        self.shape = (self.each * images_of_row, self.size[1], self.size[0])
        self.kept: Pixels = np.lib.format.open_memmap(
            str(scratch), mode="w+", dtype=np.uint8, shape=(len(rows), *self.shape)
        )

    def read(self, row: Row) -> list[Image.Image]:
        """Its images. Raises Damaged where one is missing, cannot be decoded, or has another size than the others."""
        found = []
        for name in row.images:
            path = self._root / name
            if not path.is_file() or path.is_symlink():
                raise Damaged("an image of it is not there")
            try:
                with decoding(Image.DecompressionBombError):
                    found.append(decode(path))
            except Damaged:
                raise Damaged(UNREADABLE) from None
        if len({image.size for image in found}) > 1:
            raise Damaged("its images have different sizes")
        return found

    def keep(self, place: int, found: Sequence[Image.Image]) -> Pixels:
        """Put a row's images at its place; what is there now."""
        parts = [array(image, self.mode, self.size) for image in found]
        self.kept[place] = np.concatenate(parts)
        kept: Pixels = self.kept[place]
        return kept


def _headers(root: Path, rows: Sequence[Row]) -> tuple[Counter[tuple[int, int]], set[str]]:
    """How often each size is there, and the modes. Reads no pixels."""
    sizes: Counter[tuple[int, int]] = Counter()
    modes: set[str] = set()
    for row in rows:
        for name in row.images:
            try:
                with decoding(Image.DecompressionBombError), Image.open(root / name) as opened:
                    sizes[opened.size] += 1
                    modes.add("L" if opened.mode in ("1", "L", *DEEP) else "RGB")
            except Damaged:
                continue
    return sizes, modes
