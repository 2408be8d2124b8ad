"""What forecasters share: what they accept, moving averages, and the normalisation of each window."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from sextant_zoo.errors import UnknownModelError

EPS = 1e-5


def check_series(input_shape: tuple[int, ...], horizon: int, steps: int = 2) -> tuple[int, int]:
    """(time, columns). Raises UnknownModelError for other inputs, for under `steps` steps, and for no horizon."""
    if len(input_shape) != 2 or input_shape[0] < steps:
        message = f"inputs must be (time, columns) with {steps} steps or more, got {input_shape}"
        raise UnknownModelError(message, "model.zoo")
    if horizon < 1:
        raise UnknownModelError(f"the horizon must be 1 or more, got {horizon}", "model.zoo")
    return input_shape[0], input_shape[1]


def moving_average(series: Tensor, kernel: int) -> Tensor:
    """(batch, time, columns) -> the same: the mean over `kernel` steps around each, the ends repeated."""
    before = (kernel - 1) // 2
    ends = series[:, :1].expand(-1, before, -1), series[:, -1:].expand(-1, kernel - 1 - before, -1)
    padded = torch.cat([ends[0], series, ends[1]], 1)
    return functional.avg_pool1d(padded.transpose(1, 2), kernel, 1).transpose(1, 2)


def window_scale(series: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each window and column, (batch, 1, columns) each (Kim et al., 2022)."""
    mean = series.mean(1, keepdim=True)
    deviation = torch.sqrt((series - mean).square().mean(1, keepdim=True) + EPS)
    return mean, deviation
