"""What boxes that were found are worth: which of them are right, average precision, and the best F1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.floating]
"""(n, 4): left, top, right and bottom in pixels."""


def overlaps(found: Boxes, real: Boxes) -> NDArray[np.float64]:
    """Intersection over union of each pair, (len(found), len(real))."""
    one, other = found[:, None].astype(np.float64), real[None].astype(np.float64)
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    common = sides.clip(min=0).prod(-1)
    areas = [(boxes[..., 2:] - boxes[..., :2]).clip(min=0).prod(-1) for boxes in (one, other)]
    whole: NDArray[np.float64] = common / np.maximum(areas[0] + areas[1] - common, 1e-9)
    return whole


def match(
    found: Boxes, classes: NDArray[np.integer], real: Boxes, labels: NDArray[np.integer], iou: float
) -> NDArray[np.int64]:
    """For each box that was found, the surest first, the real one that it is, or -1.

    It is the one of its class that it overlaps most, if by `iou` at least and not taken by a surer one (Everingham et
    al., 2010).
    """
    matched = np.full(len(found), -1, np.int64)
    if not len(found) or not len(real):
        return matched
    over = np.where(classes[:, None] == labels[None], overlaps(found, real), -1.0)
    free = np.ones(len(real), bool)
    for place in range(len(found)):
        nearest = int(over[place].argmax())
        if over[place, nearest] >= iou and free[nearest]:
            matched[place], free[nearest] = nearest, False
    return matched


def average_precision(right: NDArray[np.floating], wrong: NDArray[np.floating], real: float) -> float:
    """The area under precision over recall, made to fall only, at every recall (Everingham et al., 2010, from 2010 on).

    `right` and `wrong` count, by falling score, the boxes that are and are not there; `real` boxes are there.
    """
    hits, misses = right.cumsum(), wrong.cumsum()
    recall = np.concatenate([[0.0], hits / real])
    precision = hits / np.maximum(hits + misses, 1e-12)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float((np.diff(recall) * falling).sum())


@dataclass(frozen=True, slots=True)
class Best:
    """The best F1, and at which place of falling scores; boxes up to there count as found."""

    place: int
    f1: float
    precision: float
    recall: float


def best_f1(right: NDArray[np.floating], wrong: NDArray[np.floating], real: float) -> Best:
    """Of all places where a threshold can be. The counts are as for `average_precision`."""
    hits, misses = right.cumsum(), wrong.cumsum()
    f1 = 2 * hits / np.maximum(hits + misses + real, 1e-12)
    place = int(f1.argmax())
    found = max(1e-12, float(hits[place] + misses[place]))
    return Best(place, float(f1[place]), float(hits[place]) / found, float(hits[place]) / max(1e-12, float(real)))
