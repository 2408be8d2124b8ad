"""DLinear (Zeng et al., 2023): the trend and the rest of each column go through one linear layer each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sextant_zoo.series import check_series, moving_average
from sextant_zoo.settings import DlinearConfig


class EachLinear(nn.Module):
    """A linear layer over time, the same for all columns or one for each."""

    def __init__(self, steps: int, horizon: int, columns: int, *, each: bool) -> None:
        super().__init__()
        layers = [nn.Linear(steps, horizon) for _ in range(columns if each else 1)]
        for layer in layers:
            nn.init.constant_(layer.weight, 1.0 / steps)  # The mean of the window, to begin with.
        self.layers = nn.ModuleList(layers)

    def forward(self, series: Tensor) -> Tensor:
        """(batch, columns, time) -> (batch, columns, horizon)."""
        if len(self.layers) == 1:
            out: Tensor = self.layers[0](series)
            return out
        return torch.cat([layer(series[:, column : column + 1]) for column, layer in enumerate(self.layers)], 1)


class Dlinear(nn.Module):
    """(batch, time, columns) -> (batch, horizon, columns)."""

    def __init__(self, config: DlinearConfig, steps: int, columns: int, horizon: int) -> None:
        super().__init__()
        self.kernel, self.normalise = config.kernel, config.normalise
        self.trend = EachLinear(steps, horizon, columns, each=config.each)
        self.rest = EachLinear(steps, horizon, columns, each=config.each)

    def forward(self, series: Tensor) -> Tensor:
        """(batch, time, columns) -> (batch, horizon, columns)."""
        mean = series.mean(1, keepdim=True) if self.normalise else None
        series = series if mean is None else series - mean
        trend = moving_average(series, self.kernel)
        rest = series - trend
        out: Tensor = (self.trend(trend.transpose(1, 2)) + self.rest(rest.transpose(1, 2))).transpose(1, 2)
        return out if mean is None else out + mean


def build(config: DlinearConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """For series (time, columns); `classes` is the horizon. Raises UnknownModelError for other inputs."""
    steps, columns = check_series(input_shape, classes)
    return Dlinear(config, steps, columns, classes)
