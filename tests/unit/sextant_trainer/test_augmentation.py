"""Images varied at random: the same for any number of ranks, and by no more than is said."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sextant_shared.contracts.augmentation import Augmentation
from sextant_trainer.training.tasks.augmentation import vary

IMAGES = torch.rand(64, 2, 9, 9, generator=torch.Generator().manual_seed(0))


def varied(how: Augmentation, places: slice = slice(0, 64)) -> Tensor:
    return vary(IMAGES[places], how, 7, np.arange(64)[places], 64)


def test_half_of_the_images_are_mirrored_and_the_others_stay() -> None:
    made = varied(Augmentation(flip=True))
    # A grid sampled at the pixels themselves, but for rounding of their places.
    stayed = (made - IMAGES).abs().amax((1, 2, 3)) < 1e-4
    mirrored = (made - IMAGES.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    assert bool((stayed ^ mirrored).all())
    # Of 64 fair draws, 16 to 48 but for once in 30,000.
    assert 16 <= int(mirrored.sum()) <= 48


def test_each_rank_sees_its_part_of_the_same_images() -> None:
    how = Augmentation(rotate=20.0, scale=0.2, shift=0.1, flip=True)
    parts = [varied(how, slice(begin, begin + 16)) for begin in range(0, 64, 16)]
    torch.testing.assert_close(torch.cat(parts), varied(how))


def test_mirroring_leaves_the_other_draws_as_they_were() -> None:
    plain = varied(Augmentation(rotate=20.0, shift=0.1))
    both = varied(Augmentation(rotate=20.0, shift=0.1, flip=True))
    same = (plain - both).abs().amax((1, 2, 3)) < 1e-4
    assert 16 <= int(same.sum()) <= 48
