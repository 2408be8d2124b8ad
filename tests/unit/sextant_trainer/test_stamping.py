"""Objects that are stamped have the forms of real ones, and the class that says how they lie."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor

from sextant_trainer.training.tasks.stamping import Names, stamp

SIDE = 96
OPEN, SHORT, BITE, SPUR, SPOT, HOLE = range(6)
NAMES: Names = {
    (False, "across"): OPEN,
    (True, "across"): SHORT,
    (False, "edge"): BITE,
    (True, "edge"): SPUR,
    (False, "inside"): HOLE,
    (True, "inside"): SPOT,
}


def board() -> Tensor:
    """Dark wires on a bright ground, 8 and 24 wide, as it is and as it should be."""
    image = torch.full((1, 2, SIDE, SIDE), 255, dtype=torch.uint8)
    image[:, :, 10:18] = 0
    image[:, :, 50:74] = 0
    return image


def giver() -> tuple[Tensor, Tensor]:
    """A board with a gap of 5 by 10 in its wide wire, whose box is 4 larger on each side."""
    image = board()
    image[0, 1, 55:65, 30:35] = 255
    return image, torch.tensor([[[26.0, 51.0, 39.0, 69.0, HOLE]]])


def stamped(seed: int) -> tuple[Tensor, Tensor]:
    """What comes of a board without an object."""
    images = board()
    boxes = stamp(images, torch.full((1, 1, 5), -1.0), giver(), 1, NAMES, 1, [seed])
    assert boxes.shape == (1, 2, 5)
    assert torch.equal(images[:, 0], board()[:, 0]), "the reference stays as it is"
    return images[0], boxes[0][boxes[0, :, 4] >= 0]


def test_the_class_is_how_it_lies() -> None:
    came: dict[int, int] = {}
    before = label(board()[0, 0].numpy() == 0)[1], label(board()[0, 0].numpy() > 0)[1]
    for seed in range(160):
        image, boxes = stamped(seed)
        changed = (image[1] != image[0]).numpy()
        assert changed.any() == bool(len(boxes))
        if not len(boxes):
            continue
        name = int(boxes[0, 4])
        came[name] = came.get(name, 0) + 1
        assert changed.sum() <= 50
        rows, columns = np.nonzero(changed)
        inner = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        wanted = np.clip(np.array(inner) + np.array([-4, -4, 4, 4]), 0, SIDE)
        assert boxes[0, :4].tolist() == wanted.tolist()
        dark, bright = label(image[1].numpy() == 0)[1], label(image[1].numpy() > 0)[1]
        more = {OPEN: (1, -1), SHORT: (-1, 1), BITE: (0, 0), SPUR: (0, 0), SPOT: (1, 0), HOLE: (0, 1)}[name]
        assert (dark - before[0], bright - before[1]) == more
        # What is taken away is of one tone.
        assert len(set(image[0].numpy()[changed].tolist())) == 1
        assert (image[0].numpy()[changed][0] == 0) == (name in (OPEN, BITE, HOLE))
    assert {OPEN, BITE, SPUR} <= set(came)
    assert 40 <= sum(came.values()) <= 120, "none or one, as likely as not"


def test_no_object_is_covered_and_none_comes_of_no_form() -> None:
    for seed in range(12):
        images, full = board(), torch.tensor([[[0.0, 0.0, SIDE, SIDE, HOLE]]])
        boxes = stamp(images, full, giver(), 1, NAMES, 3, [seed])
        assert torch.equal(images, board())
        assert torch.equal(boxes[:, :1], full)
        boxes = stamp(images, torch.full((1, 1, 5), -1.0), (board(), full), 1, NAMES, 3, [seed])
        assert torch.equal(images, board())
        assert bool((boxes < 0).all())
