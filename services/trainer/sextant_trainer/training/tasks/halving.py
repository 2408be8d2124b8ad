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

MIDDLE = 127
"""The brightest of the dark tone."""
AROUND = 6
"""Pixels around an object that are looked at with it."""
SPECK = 12
"""Pixels; what is smaller is no piece."""
LEAST = 20
"""Pixels of an object, and of what is left of it."""
KEPT = (0.3, 0.7)
"""Shares of an object that may be left."""
TRIES = 6
Mask = NDArray[np.bool_]


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
    found = _shorter(shown.mean(0) > MIDDLE, plain.mean(0) > MIDDLE, rng)
    if found is None:
        return
    whole, left, healed = found
    shown[:, healed] = np.tile(plain, (len(shown) // reference, 1, 1))[:, healed]
    # A box is as much larger than what is left as it was than the whole.
    corner = np.tile(low, 2)
    sides = corner + _sides(whole)
    margin = max(0.0, float(np.median([*(sides[:2] - boxes[row, :2]), *(boxes[row, 2:4] - sides[2:])])))
    boxes[row, :4] = corner + _sides(left) + margin * np.array([-1, -1, 1, 1])
    boxes[row, :4] = boxes[row, :4].clip(0, np.tile(size, 2))
    boxes[row, 4] = becomes


def _shorter(shown: Mask, plain: Mask, rng: np.random.Generator) -> tuple[Mask, Mask, Mask] | None:
    """The object, what is left of it, and which pixels are to be as in the reference; None where it crosses nothing.

    An object takes away what has one tone in the reference: copper of a wire, or a gap. It crosses that where more
    pieces of the tone are left than there were.
    """
    changed = shown != plain
    if changed.sum() < LEAST:
        return None
    ground = plain == (plain[changed].mean() > 0.5)
    numbers, _ = _label(changed & ground)
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    whole = numbers == sizes.argmax()
    pieces = _pieces(ground)
    if sizes.max() < LEAST or _pieces(ground & ~whole) <= pieces:
        return None
    rows, columns = np.indices(plain.shape)
    for _ in range(TRIES):
        angle = rng.uniform(0, 2 * np.pi)
        along = columns * np.cos(angle) + rows * np.sin(angle)
        far = along >= np.quantile(along[whole], rng.uniform(*KEPT))
        left = whole & ~far
        # It must hang on one side still, and reach no other.
        hangs = _pieces(~ground | left) <= _pieces(~ground)
        if left.sum() >= LEAST and hangs and _pieces(ground & ~left) == pieces:
            return whole, left, changed & far
    return None


def _sides(mask: Mask) -> NDArray[np.int64]:
    """Left, top, right, bottom."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def _pieces(mask: Mask) -> int:
    numbers, _ = _label(mask)
    return int((np.bincount(numbers.ravel())[1:] >= SPECK).sum())


def _label(mask: Mask) -> tuple[NDArray[np.int32], int]:
    # Not before it is needed: what waits for work without it is to be small.
    from scipy.ndimage import label

    numbers, count = label(mask)
    return numbers, count
