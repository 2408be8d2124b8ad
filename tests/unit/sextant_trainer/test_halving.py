"""Half of what crosses something ends within it: another class, a smaller box, and the rest as in the reference."""

from __future__ import annotations

import pytest
import torch
from scipy.ndimage import label
from torch import Tensor

from sextant_trainer.training.tasks.halving import halve

OPEN, BITE = 0, 1
SIDE = 64
WIRE, CUT = slice(20, 44), slice(28, 34)
BOXED = (23.0, 15.0, 39.0, 49.0)


def pair(cut: slice, *, bright: bool = False) -> Tensor:
    """A wire from left to right, and the same with a gap in some of its rows."""
    image = torch.full((2, SIDE, SIDE), 255, dtype=torch.uint8)
    image[:, WIRE] = 0
    image[1, cut, CUT] = 255
    return 255 - image if bright else image


def halved(image: Tensor, seed: int, box: tuple[float, ...] = BOXED) -> tuple[Tensor, list[float]]:
    """What comes of a picture with one object that is an opening."""
    boxes = torch.tensor([[*box, OPEN], [-1.0] * 5])
    made, found = halve(image, boxes, 1, (BITE, BITE), seed)
    assert found[1].tolist() == [-1.0] * 5
    return made, found[0].tolist()


@pytest.mark.parametrize("bright", [False, True])
def test_half_of_an_opening_is_a_bite(bright: bool) -> None:
    image = pair(WIRE, bright=bright)
    ground = int(image[0, WIRE.start, 0])
    cut = 0
    for seed in range(24):
        before = image.clone()
        made, (left, top, right, bottom, name) = halved(image, seed)
        assert torch.equal(image, before), "the picture that was given stays as it is"
        assert torch.equal(made[0], image[0])
        if name == OPEN:
            assert torch.equal(made, image)
            continue
        cut += 1
        gap = (made[1] != made[0]).nonzero()
        assert 0.2 <= len(gap) / (24 * 6) <= 0.8
        assert label((made[1] == ground).numpy())[1] == 1, "the wire is whole"
        assert label((made[1] != ground).numpy())[1] == 2, "the gap hangs on one side"
        # 5 pixels around it, as around the whole.
        (first, near), (last, far) = gap.amin(0).tolist(), gap.amax(0).tolist()
        assert [left, top, right, bottom] == [near - 5, first - 5, far + 6, last + 6]
    assert 6 <= cut <= 18


def test_what_crosses_nothing_stays() -> None:
    image = pair(slice(20, 36))
    assert all(halved(image, seed)[1] == [*BOXED, OPEN] for seed in range(8))
    assert all(torch.equal(halved(image, seed)[0], image) for seed in range(8))


def test_what_another_object_is_near_stays() -> None:
    boxes = torch.tensor([[*BOXED, OPEN], [42.0, 20.0, 50.0, 30.0, BITE]])
    for seed in range(8):
        image, found = halve(pair(WIRE), boxes, 1, (BITE, BITE), seed)
        assert torch.equal(found, boxes)
        assert torch.equal(image, pair(WIRE))


def test_an_object_at_the_edge_or_without_a_difference() -> None:
    for box in ((0.0, 0.0, 3.0, 3.0), (60.0, 60.0, 64.0, 64.0)):
        assert all(halved(pair(WIRE), seed, box)[1] == [*box, OPEN] for seed in range(8))
