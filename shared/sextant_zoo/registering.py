"""A reference moved to where the picture lies that is compared with it: cameras and boards are never quite in place."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

POINTS = (48, 96)
"""Rows and columns of places that are compared, at most: under noise of 20 grey levels 2 of 800 pairs were misled."""


def registered(reference: Tensor, picture: Tensor, most: int) -> Tensor:
    """`reference` moved by whole pixels, up to `most` each way, to where it differs least from `picture`.

    Both are (batch, channels, height, width); so is the result, whose edges are repeated. Each pair is moved by itself,
    by the least sum of squares over a grid of places.
    """
    height, width = reference.shape[-2:]
    down, along = _least(_blurred(reference), _blurred(picture), most)
    wide = functional.pad(reference, (most, most, most, most), "replicate")
    stride, device = width + 2 * most, reference.device
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    places = (rows[:, None] * stride + columns[None]).flatten()
    index = places[None] + (down * stride + along)[:, None]
    taken = wide.flatten(2).gather(2, index[:, None].expand(-1, reference.shape[1], -1))
    return taken.reshape(reference.shape)


def _blurred(images: Tensor) -> Tensor:
    """Sums over squares of three pixels, (batch, height - 2, width - 2): so that noise weighs less."""
    grey = images.float().mean(1)
    grey = grey[:, :-2] + grey[:, 1:-1] + grey[:, 2:]
    return grey[..., :-2] + grey[..., 1:-1] + grey[..., 2:]


def _least(reference: Tensor, picture: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The move of each pair, down and along, counted from `most` the other way: whole numbers (batch,) from 0."""
    device, shifts = reference.device, 2 * most + 1
    height, width = reference.shape[-2:]
    rows, columns = (
        _spread(most, side - most, points, device) for side, points in zip((height, width), POINTS, strict=True)
    )
    # Small moves first: of those that are as good it takes the one least along, then least down.
    moves = torch.tensor(sorted(range(-most, most + 1), key=abs), device=device)
    seen = picture.index_select(1, rows).transpose(1, 2).index_select(1, columns)
    # Transposed in between, since whole rows are copied much faster than single columns.
    around = reference.index_select(1, (moves[:, None] + rows).flatten()).transpose(1, 2).contiguous()
    around = around.index_select(1, (moves[:, None] + columns).flatten())
    around = around.reshape(-1, shifts, len(columns), shifts, len(rows))
    best = (around - seen[:, None, :, None]).square().sum((2, 4)).flatten(1).argmin(1)
    return moves[best % shifts] + most, moves[best // shifts] + most


def _spread(first: int, end: int, most: int, device: torch.device) -> Tensor:
    """Up to `most` whole numbers from `first` to before `end`, spread evenly."""
    count = min(most, end - first)
    return first + torch.arange(count, device=device) * (end - first) // count
