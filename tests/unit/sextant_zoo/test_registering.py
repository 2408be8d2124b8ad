"""References that are moved to where the picture lies."""

from __future__ import annotations

import torch
from torch import Tensor

from sextant_zoo.registering import registered

MOST = 4


def scene(seed: int, channels: int = 1) -> Tensor:
    """Blobs of some pixels, (1, channels, 88, 120)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, channels, 11, 15, generator=generator).round()
    return coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)


def cut(wide: Tensor, down: int, along: int) -> Tensor:
    """What a camera sees of it, so far from the middle: (1, channels, 64, 96)."""
    return wide[..., 12 + down : 76 + down, 12 + along : 108 + along]


def test_each_pair_of_a_batch_is_moved_by_itself() -> None:
    moves = [(0, 0), (3, -2), (-4, 4), (1, 0), (0, -4)]
    pairs = [(cut(scene(seed), *move), cut(scene(seed), 0, 0)) for seed, move in enumerate(moves)]
    references, pictures = (torch.cat(part) for part in zip(*pairs, strict=True))
    made = registered(references, pictures, MOST)
    inner = (slice(None), slice(None), slice(MOST, -MOST), slice(MOST, -MOST))
    assert torch.equal(made[inner], pictures[inner])
    assert torch.equal(made[0], references[0])


def test_edges_are_repeated() -> None:
    reference, picture = cut(scene(7), 0, 0), cut(scene(7), 2, 0)
    made = registered(reference, picture, MOST)
    assert torch.equal(made[..., :-2, :], reference[..., 2:, :])
    assert torch.equal(made[..., -2:, :], reference[..., -1:, :].expand(-1, -1, 2, -1))


def test_noise_a_defect_and_colours_do_not_mislead() -> None:
    wide = scene(3, channels=3)
    reference, picture = cut(wide, -1, 3), cut(wide, 0, 0).clone()
    picture[..., 20:30, 20:30] = 1 - picture[..., 20:30, 20:30]
    noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0)) / 10
    made = registered(reference, picture + noise, MOST)
    assert torch.equal(made, registered(reference, cut(wide, 0, 0), MOST))


def test_of_moves_that_are_as_good_it_takes_the_smallest() -> None:
    """Stripes two pixels wide fit every fourth one, and say nothing of the other direction."""
    stripes = (torch.arange(96) // 2 % 2).float().expand(1, 1, 64, 96)
    reference = stripes.clone()
    reference[..., 0, :] = 0.5
    assert torch.equal(registered(reference, stripes, MOST), reference)
