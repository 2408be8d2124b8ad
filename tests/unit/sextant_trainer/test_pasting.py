"""Objects that are put into other pictures come with their surroundings, their reference and their box."""

from __future__ import annotations

import torch
from torch import Tensor

from sextant_trainer.training.tasks.pasting import LEAST, paste

SIDE = 96


def giver(value: int, left: int = 40, top: int = 50) -> tuple[Tensor, Tensor]:
    """A picture of two images that are `value` bright, with one white block in the second, which has a box."""
    image = torch.full((1, 2, SIDE, SIDE), value, dtype=torch.uint8)
    image[0, 1, top : top + 5, left : left + 8] = 255
    return image, torch.tensor([[[left, top, left + 8, top + 5, 2.0], [-1.0] * 5]])


def pasted(seed: int, most: int = 1) -> tuple[Tensor, Tensor]:
    """What comes of an empty black picture with a giver that is grey."""
    images = torch.zeros(1, 2, SIDE, SIDE, dtype=torch.uint8)
    boxes = paste(images, torch.full((1, 1, 5), -1.0), giver(9), most, [seed])
    return images[0], boxes[0]


def test_an_object_comes_with_its_box_and_what_is_around_it() -> None:
    came = 0
    for seed in range(16):
        image, boxes = pasted(seed)
        assert boxes.shape == (2, 5)
        real = boxes[boxes[:, 4] >= 0]
        if not len(real):
            assert not image.any()
            continue
        came += 1
        left, top, right, bottom, label = (int(number) for number in real[0])
        assert (right - left, bottom - top, label) == (8, 5, 2)
        assert bool((image[1, top:bottom, left:right] == 255).all())
        assert int((image[1] == 255).sum()) == 40
        # The reference has the same piece without the object.
        assert bool((image[0] == torch.where(image[1] > 0, 9, 0)).all())
        around = image[0, max(0, top - LEAST) : bottom + LEAST, max(0, left - LEAST) : right + LEAST]
        assert bool((around == 9).all())
    # None or one, as likely as not.
    assert 3 <= came <= 13


def test_no_object_is_covered() -> None:
    for seed in range(20):
        images, own = giver(0)
        found = paste(images, own, giver(9, left=10, top=10), 3, [seed])
        left, top, right, bottom = (int(side) for side in own[0, 0, :4])
        assert bool((images[0, 0, top:bottom, left:right] == 0).all())
        assert found[0, 0].tolist() == own[0, 0].tolist()


def test_an_object_that_another_one_reaches_into_stays_where_it_is() -> None:
    images, boxes = giver(9)
    boxes[0, 1] = torch.tensor([47.0, 54.0, 60.0, 60.0, 1.0])
    for seed in range(20):
        empty = torch.zeros(1, 2, SIDE, SIDE, dtype=torch.uint8)
        found = paste(empty, torch.full((1, 1, 5), -1.0), (images, boxes), 2, [seed])
        assert bool((found[..., 4] < 0).all())
        assert not empty.any()


def test_the_same_seed_puts_the_same_there() -> None:
    first, again, other = pasted(3, 4), pasted(3, 4), pasted(4, 4)
    assert bool((first[0] == again[0]).all())
    assert bool((first[1] == again[1]).all())
    assert not bool((first[0] == other[0]).all())
