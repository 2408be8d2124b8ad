"""Pictures of two tones: the pieces of one, and how what takes a part of it away lies there."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

MIDDLE = 127
"""The brightest of the dark tone."""
AROUND = 6
"""Pixels around an object that are looked at with it."""
SPECK = 12
"""Pixels; what is smaller is no piece."""
BORDERS = 0.35
"""Of what is around an object at an edge, as much must be of the tone that it is in: else it is an end cut off."""
Mask = NDArray[np.bool_]
Lies = Literal["across", "edge", "inside"]


def bright(pixels: NDArray[np.uint8]) -> Mask:
    """(channels, height, width) -> (height, width): where it is of the bright tone."""
    found: Mask = pixels.mean(0) > MIDDLE
    return found


def lies(ground: Mask, taken: Mask) -> Lies | None:
    """How `taken`, which is one piece, lies in what `ground` was; None where it is hard to say.

    It lies across where more pieces of the ground are left than there were.
    """
    if pieces(ground & ~taken) > pieces(ground):
        return "across"
    around = _grown(taken) & ~taken
    if not (around & ~ground).any():
        return "inside"
    # It hangs on one piece of the other tone, and joins none.
    hangs = pieces(~ground | taken) <= pieces(~ground)
    return "edge" if hangs and ground[around].mean() >= BORDERS else None


def largest(mask: Mask) -> Mask:
    """Its largest piece; all of it where there is none."""
    numbers = _numbered(mask)
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    return numbers == sizes.argmax() if sizes.any() else mask


def pieces(mask: Mask) -> int:
    """How many there are."""
    return int((np.bincount(_numbered(mask).ravel())[1:] >= SPECK).sum())


def sides(mask: Mask) -> NDArray[np.int64]:
    """Left, top, right, bottom."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


def _grown(mask: Mask) -> Mask:
    # Not before it is needed: what waits for work without it is to be small.
    from scipy.ndimage import binary_dilation

    grown: Mask = binary_dilation(mask)
    return grown


def _numbered(mask: Mask) -> NDArray[np.int32]:
    from scipy.ndimage import label

    numbers: NDArray[np.int32] = label(mask)[0]
    return numbers
