"""Objects of other pictures put into a picture, with what is around them (Ghiasi et al., 2021).

Where pictures come with a reference, the piece is taken from both: what tells the object is then the difference alone,
as its seams are in the reference too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

LEAST, MOST = 4, 16
"""Pixels around an object that come with it."""
Boxes = NDArray[np.float32]
Corner = NDArray[np.int64]
"""Across and down, in pixels."""


def paste(images: Tensor, targets: Tensor, givers: tuple[Tensor, Tensor], most: int, seeds: Sequence[int]) -> Tensor:
    """Into each of `images` (n, channels, height, width), in place, up to `most` objects of the giver at its place.

    `givers` are images and targets like these; targets are (n, m, 5) as `boxes` has them, and given back with room for
    what has come: (n, m + most, 5). What would cover an object is not put there.
    """
    room = targets.new_full((len(targets), most, targets.shape[2]), -1.0)
    found = torch.cat([targets, room], 1)
    for image, boxes, giver, theirs, seed in zip(images, found, *givers, seeds, strict=True):
        rng = np.random.default_rng(seed)
        _paste(image.numpy(), boxes.numpy(), giver.numpy(), theirs.numpy(), int(rng.integers(most + 1)), rng)
    return found


def _paste(
    image: NDArray[np.uint8],
    boxes: Boxes,
    giver: NDArray[np.uint8],
    theirs: Boxes,
    number: int,
    rng: np.random.Generator,
) -> None:
    size = np.array(image.shape[:0:-1])
    theirs = theirs[theirs[:, 4] >= 0]
    for row in rng.permutation(len(theirs))[:number]:
        margin = rng.integers(LEAST, MOST + 1)
        low = (np.floor(theirs[row, :2]).astype(int) - margin).clip(min=0)
        high = (np.ceil(theirs[row, 2:4]).astype(int) + margin).clip(max=size)
        by = rng.integers(size - (high - low) + 1) - low
        if meets(np.delete(theirs, row, 0), low, high) or meets(boxes[boxes[:, 4] >= 0], low + by, high + by):
            continue
        image[part(low + by, high + by)] = giver[part(low, high)]
        boxes[np.flatnonzero(boxes[:, 4] < 0)[0]] = theirs[row] + np.array([*by, *by, 0], np.float32)


def part(low: Corner, high: Corner) -> tuple[slice, slice, slice]:
    """Of all channels."""
    return (slice(None), slice(low[1], high[1]), slice(low[0], high[0]))


def meets(boxes: Boxes, low: Corner, high: Corner) -> bool:
    """Whether a box has a part of what lies between the corners."""
    return bool(((boxes[:, :2] < high) & (boxes[:, 2:4] > low)).all(1).any())
