"""Boxes as their files say them, and whether they can be those of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sextant_shared.damage import Damaged

BEYOND = 1.0
"""Pixels by which a box may reach over the edge, where it is cut: annotators count from 0 or 1."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One box: its sides in pixels of the source, and the class as it is written."""

    left: float
    top: float
    right: float
    bottom: float
    label: str


def checked(marks: Sequence[Mark], width: int, height: int) -> NDArray[np.float32]:
    """The sides (n, 4), within the image. Raises Damaged with the reason where a box cannot be one of the image."""
    found = np.empty((len(marks), 4), np.float32)
    for number, mark in enumerate(marks):
        sides = (mark.left, mark.top, mark.right, mark.bottom)
        if not all(map(math.isfinite, sides)):
            raise Damaged("a side of a box is no number")
        if min(mark.left, mark.top) < -BEYOND or mark.right > width + BEYOND or mark.bottom > height + BEYOND:
            raise Damaged("a box reaches beyond the image")
        left, top = max(0.0, mark.left), max(0.0, mark.top)
        right, bottom = min(float(width), mark.right), min(float(height), mark.bottom)
        if right <= left or bottom <= top:
            raise Damaged("a box has no area")
        found[number] = left, top, right, bottom
    return found


def renamed(marks: Sequence[Mark], classes: Mapping[str, str] | None) -> list[str]:
    """The names of the classes. Raises Damaged for one that is not known; without `classes` all are."""
    if classes is None:
        return [mark.label for mark in marks]
    if any(mark.label not in classes for mark in marks):
        raise Damaged("a box has an unknown class")
    return [classes[mark.label] for mark in marks]
