"""A U-Net (Ronneberger et al., 2015) with group normalisation (Wu and He, 2018); the skips travel in the carry.

So any cut between two blocks is a cut of the pipeline: a stage hands on its skips with its result.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.blocks import Block, BlockModel
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import UnetConfig

PAIR: Mapping[str, str] = {"convs.conv1": "conv-column", "convs.norm1": "conv-norm", "convs.conv2": "conv-row"}


class Convolutions(nn.Module):
    """Two 3x3 convolutions, each with normalisation and SiLU."""

    def __init__(self, channels: int, wide: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, wide, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(groups, wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(groups, wide)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, wide, height, width)."""
        x = functional.silu(self.norm1(self.conv1(x)))
        return functional.silu(self.norm2(self.conv2(x)))


class Level(Block):
    """What the blocks of both ways share: a pair of convolutions, split by channels in whole groups."""

    tensor_rules: ClassVar[Mapping[str, str]] = PAIR

    def __init__(self, channels: int, wide: int, groups: int) -> None:
        super().__init__()
        self.convs = Convolutions(channels, wide, groups)
        self._limit = groups

    @property
    def tensor_limit(self) -> int:
        """The groups of the normalisation."""
        return self._limit


class Down(Level):
    """Convolutions whose result is halved for the next level, and kept as a skip."""

    kind: ClassVar[str] = "down"

    def forward(self, x: Tensor, *skips: Tensor) -> tuple[Tensor, ...]:
        """(batch, channels, height, width) and skips -> half the size, and one skip more."""
        out = self.convs(x)
        return functional.max_pool2d(out, 2), *skips, out


class Middle(Level):
    """The lowest level."""

    kind: ClassVar[str] = "middle"

    def forward(self, x: Tensor, *skips: Tensor) -> tuple[Tensor, ...]:
        """The skips stay as they are."""
        return self.convs(x), *skips


class Up(Level):
    """Doubles the size, joins the last skip, and convolves."""

    kind: ClassVar[str] = "up"

    def __init__(self, channels: int, wide: int, groups: int) -> None:
        super().__init__(2 * wide, wide, groups)
        self.narrow = nn.Conv2d(channels, wide, 1)

    def forward(self, x: Tensor, *skips: Tensor) -> tuple[Tensor, ...]:
        """(batch, channels, height, width) and skips -> twice the size, and one skip less."""
        out = self.narrow(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return self.convs(torch.cat([out, skips[-1]], 1)), *skips[:-1]


class Mask(Block):
    """Logits for each pixel."""

    kind: ClassVar[str] = "mask"

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.output = nn.Conv2d(channels, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, classes, height, width)."""
        logits: Tensor = self.output(x)
        return logits


def build(config: UnetConfig, input_shape: tuple[int, ...], classes: int) -> BlockModel:
    """For images (channels, height, width). Raises UnknownModelError where they cannot be halved `depth` times."""
    step = 2**config.depth
    if len(input_shape) != 3 or input_shape[1] % step or input_shape[2] % step:
        message = f"depth {config.depth} needs images that are a multiple of {step} high and wide, got {input_shape}"
        raise UnknownModelError(message, "model.config.depth")
    widths = [config.channels * 2**level for level in range(config.depth + 1)]
    blocks: dict[str, nn.Module] = {}
    channels = input_shape[0]
    for level in range(config.depth):
        blocks[f"down_{level}"] = Down(channels, widths[level], config.groups)
        channels = widths[level]
    blocks["middle"] = Middle(channels, widths[-1], config.groups)
    for level in reversed(range(config.depth)):
        blocks[f"up_{level}"] = Up(widths[level + 1], widths[level], config.groups)
    blocks["head"] = Mask(widths[0], classes)
    return BlockModel(blocks)
