"""A patch transformer for forecasting (PatchTST: Nie et al., 2023): each channel is cut into patches on its own."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sextant_zoo.blocks import Block, BlockModel
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import TimeSeriesConfig
from sextant_zoo.transformer import initialise, layer_of


class SeriesPatches(Block):
    """Series to sequences of patches, one a channel, with learned positions."""

    kind: ClassVar[str] = "patches"
    sequence: ClassVar[str] = "whole"

    def __init__(self, patch: int, patches: int, hidden: int) -> None:
        super().__init__()
        self.patch, self.patches = patch, patches
        self.project = nn.Linear(patch, hidden)
        self.positions = nn.Parameter(torch.randn(patches, hidden) * 0.02)

    def forward(self, series: Tensor) -> Tensor:
        """(batch, time, channels) -> (batch * channels, patches, hidden). The oldest odd steps are left out."""
        used = series[:, -self.patches * self.patch :].transpose(1, 2)
        out: Tensor = self.project(used.reshape(-1, self.patches, self.patch))
        return out + self.positions


class Forecast(Block):
    """All patches of a channel to its next `horizon` steps."""

    kind: ClassVar[str] = "forecast"
    sequence: ClassVar[str] = "whole"

    def __init__(self, hidden: int, patches: int, channels: int, horizon: int) -> None:
        super().__init__()
        self.channels = channels
        self.norm = nn.LayerNorm(hidden)
        self.output = nn.Linear(patches * hidden, horizon)

    def forward(self, x: Tensor) -> Tensor:
        """(batch * channels, patches, hidden) -> (batch, horizon, channels)."""
        steps: Tensor = self.output(self.norm(x).flatten(1))
        return steps.view(-1, self.channels, steps.shape[1]).transpose(1, 2)


def build(config: TimeSeriesConfig, input_shape: tuple[int, ...], classes: int) -> BlockModel:
    """From (batch, time, channels) to (batch, horizon, channels); `classes` is the horizon.

    Raises UnknownModelError where the series are shorter than two patches, or `horizon` is another.
    """
    if config.horizon not in (None, classes) and classes:
        message = f"horizon is {config.horizon}, and the data have {classes} steps"
        raise UnknownModelError(message, "model.config.horizon")
    horizon = config.horizon or classes or 24
    if len(input_shape) != 2 or input_shape[0] < 2 * config.patch:
        message = f"series need two patches of {config.patch} steps or more, got (time, channels) = {input_shape}"
        raise UnknownModelError(message, "model.config.patch")
    time, channels = input_shape
    patches = time // config.patch
    blocks: dict[str, nn.Module] = {"embed": SeriesPatches(config.patch, patches, config.hidden)}
    for index in range(config.layers):
        blocks[f"layer_{index}"] = layer_of(config)
    blocks["head"] = Forecast(config.hidden, patches, channels, horizon)
    return BlockModel(blocks).apply(initialise)
