"""Objects of which a part is taken away: what crossed a wire, or the gap between two, then ends within it.

Of these a detector learns that what tells such classes apart is not the form of an object, but whether it reaches the
other side. For pictures of two tones that come with a reference, which says what is there without the object.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sextant_trainer.training.tasks.pasting import Boxes, meets, part
from sextant_trainer.training.tasks.tones import AROUND, Mask, bright, largest, lies, sides

LEAST = 20
"""Pixels of an object, and of what is left of it."""
KEPT = (0.3, 0.7)
"""Shares of an object that may be left."""
TRIES = 6


def halve(image: Tensor, boxes: Tensor, reference: int, becomes: Sequence[int], seed: int) -> tuple[Tensor, Tensor]:
    """`image` (channels, height, width) and `boxes` (m, 5), with half of the objects that cross something cut short.

    `reference`: so many of the first channels are the reference. `becomes` says by class which it is then, or the same
    class for those that are left as they are.
    """
    rng = np.random.default_rng(seed)
    image, boxes = image.clone(), boxes.clone()
    pixels, rows = image.numpy(), boxes.numpy()
    for row in np.flatnonzero(rows[:, 4] >= 0):
        here = int(rows[row, 4])
        if becomes[here] != here and rng.random() < 0.5:
            _cut(pixels, rows, int(row), reference, becomes[here], rng)
    return image, boxes


def _cut(
    pixels: NDArray[np.uint8], boxes: Boxes, row: int, reference: int, becomes: int, rng: np.random.Generator
) -> None:
    """In place, where there is a way to; not where another object is near."""
    size = np.array(pixels.shape[:0:-1])
    low = (np.floor(boxes[row, :2]).astype(int) - AROUND).clip(min=0)
    high = (np.ceil(boxes[row, 2:4]).astype(int) + AROUND).clip(max=size)
    others = np.delete(boxes, row, 0)
    if meets(others[others[:, 4] >= 0], low, high):
        return
    crop = pixels[part(low, high)]
    plain, shown = crop[:reference], crop[reference:]
    found = _shorter(bright(shown), bright(plain), rng)
    if found is None:
        return
    whole, left, healed = found
    shown[:, healed] = np.tile(plain, (len(shown) // reference, 1, 1))[:, healed]
    # A box is as much larger than what is left as it was than the whole.
    corner = np.tile(low, 2)
    margin = margin_of(boxes[row, :4], corner + sides(whole))
    boxes[row, :4] = corner + sides(left) + margin * np.array([-1, -1, 1, 1])
    boxes[row, :4] = boxes[row, :4].clip(0, np.tile(size, 2))
    boxes[row, 4] = becomes


def margin_of(box: NDArray[np.float32], inner: NDArray[np.int64]) -> float:
    """Pixels by which a box is larger than what is in it, on its middling sides."""
    return max(0.0, float(np.median([*(inner[:2] - box[:2]), *(box[2:] - inner[2:])])))


def _shorter(shown: Mask, plain: Mask, rng: np.random.Generator) -> tuple[Mask, Mask, Mask] | None:
    """The object, what is left of it, and which pixels are to be as in the reference; None where it crosses nothing.

    An object takes away what has one tone in the reference: copper of a wire, or a gap.
    """
    changed = shown != plain
    if changed.sum() < LEAST:
        return None
    ground = plain == (plain[changed].mean() > 0.5)
    whole = largest(changed & ground)
    if whole.sum() < LEAST or lies(ground, whole) != "across":
        return None
    rows, columns = np.indices(plain.shape)
    for _ in range(TRIES):
        angle = rng.uniform(0, 2 * np.pi)
        along = columns * np.cos(angle) + rows * np.sin(angle)
        far = along >= np.quantile(along[whole], rng.uniform(*KEPT))
        left = largest(whole & ~far)
        if left.sum() >= LEAST and lies(ground, left) == "edge":
            return whole, left, changed & ~left & (far | whole)
    return None
