"""Random variations of training images: turned, scaled, shifted, mirrored, by seed, step and place in the batch."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sextant_shared.contracts.augmentation import Augmentation


def vary(images: Tensor, how: Augmentation, seed: int, places: NDArray[np.int64], batch: int) -> Tensor:
    """`images` (n, channels, height, width), which stand at `places` of a global batch of `batch`, each transformed.

    The draws are made for the whole global batch, so that any number of ranks sees the same images.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(batch, 4, generator=generator)[torch.from_numpy(places)] * 2.0 - 1.0
    angle = draws[:, 0] * math.radians(how.rotate)
    zoom = 1.0 + draws[:, 1] * how.scale
    shift = draws[:, 2:] * (2.0 * how.shift)  # the sampling grid is two units wide
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    side = torch.ones(len(places))
    if how.flip:
        side -= 2.0 * (torch.rand(batch, generator=generator)[torch.from_numpy(places)] < 0.5)
    # Where a pixel comes from: its place turned and scaled, and then mirrored.
    rows = [torch.stack([side * cos, -side * sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
