"""A detector of objects without anchors, on any network of the zoo that is a chain for images.

A reference, which is the first half of the channels where there is one, can be moved to where the picture lies first.
Maps of several sizes come together at one stride from the coarsest down (Lin et al., 2017). Each cell of the result
says how likely the middle of an object of each class lies there (Zhou et al., 2019), and how far its box reaches to the
left, up, right and down (Tian et al., 2019), in cells. `detecting` makes boxes of this.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.blocks import BlockModel
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.registering import registered
from sextant_zoo.registry import build as build_backbone
from sextant_zoo.settings import DetectorConfig

RARE = 0.01
"""How likely a cell is said to hold an object before training (Lin et al., 2017, focal loss)."""
REACH = 2.0
"""Cells from the middle of a box to its sides, before training."""
MOMENTUM = 0.1
"""Of batch normalisation: trainings of detectors are short, and published backbones follow slowly."""
Level = tuple[int, int, int]
"""A map of the backbone: the block after which it is there, its channels, and its stride."""


class Separable(nn.Module):
    """A convolution of each channel by itself, and one over channels, with normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 5, padding=2, groups=channels, bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardswish(),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardswish(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same."""
        out: Tensor = self.layers(x)
        return out


class Detector(nn.Module):
    """A backbone, the joining of its maps, and the head."""

    def __init__(self, backbone: BlockModel, levels: Sequence[Level], config: DetectorConfig, classes: int) -> None:
        super().__init__()
        self.align, self.fold, self.stride = config.align, config.fold, config.stride
        self.taps = [block for block, _, _ in levels]
        kept = list(backbone.blocks.items())[: self.taps[-1] + 1]
        self.backbone = nn.ModuleDict(dict(kept))
        wide = config.channels
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, wide, 1, bias=False), nn.BatchNorm2d(wide)) for _, channels, _ in levels
        )
        self.head = nn.Sequential(*(Separable(wide) for _ in range(config.depth)))
        self.output = nn.Conv2d(wide, classes + 4, 1)
        self._begin(classes)

    def _begin(self, classes: int) -> None:
        nn.init.normal_(self.output.weight, std=0.01)
        with torch.no_grad():
            assert self.output.bias is not None  # noqa: S101 - for the checker of types
            self.output.bias[:classes] = -math.log((1 - RARE) / RARE)
            self.output.bias[classes:] = REACH
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, classes + 4, height / stride, width / stride)."""
        if self.align:
            reference, picture = x.chunk(2, 1)
            x = torch.cat([registered(reference, picture, self.align), picture], 1)
            x = x.contiguous(memory_format=torch.channels_last)
        if self.fold > 1:
            x = functional.pixel_unshuffle(x, self.fold)
        maps: list[Tensor] = []
        for number, block in enumerate(self.backbone.values()):
            x = block(x)
            if number in self.taps:
                maps.append(x)
        joined = self.lateral[-1](maps[-1])
        for lateral, finer in zip(reversed(self.lateral[:-1]), reversed(maps[:-1]), strict=True):
            joined = lateral(finer) + functional.interpolate(joined, size=finer.shape[-2:], mode="nearest")
        out: Tensor = self.output(self.head(functional.hardswish(joined)))
        return out


def build(config: DetectorConfig, input_shape: tuple[int, ...], classes: int) -> Detector:
    """For images (channels, height, width). Raises UnknownModelError for those that do not fit the stride."""
    if len(input_shape) != 3 or any(side % config.stride for side in input_shape[1:]):
        message = f"inputs must be (channels, height, width) in multiples of the stride {config.stride}"
        raise UnknownModelError(f"{message}, got {input_shape}", "model.config.stride")
    channels, height, width = input_shape
    if config.align and (channels % 2 or min(height, width) < 4 * config.align):
        message = "inputs must be a reference and a picture, of as many channels each and four times this a side"
        raise UnknownModelError(f"{message}, got {input_shape}", "model.config.align", "0")
    folded = (channels * config.fold**2, height // config.fold, width // config.fold)
    backbone = build_backbone(config.backbone, _settings(config), folded, 2)
    assert isinstance(backbone, BlockModel)  # noqa: S101 - the backbones that settings accept are chains
    known = _levels(backbone, folded, config.fold)
    levels = [level for level in known if config.stride <= level[2] <= config.coarsest]
    if not levels or levels[0][2] != config.stride:
        strides = ", ".join(str(stride) for _, _, stride in known)
        message = f"{config.backbone} with fold {config.fold} has maps at the strides {strides}, not at {config.stride}"
        raise UnknownModelError(f"{message} for images of {height} x {width}", "model.config.stride", strides)
    return Detector(backbone, levels, config, classes)


def _settings(config: DetectorConfig) -> dict[str, object]:
    if config.backbone.startswith("resnet"):
        return {"width": max(4, round(64 * config.width)), "stem": config.stem}
    return {"width": config.width, "stem": config.stem}


def _levels(backbone: BlockModel, shape: tuple[int, ...], fold: int) -> list[Level]:
    """The last map of each size, the finest first; what is no map any more, as the head gives, is none."""
    x = torch.empty(1, *shape, device="meta")
    found: dict[int, Level] = {}
    for number, block in enumerate(copy.deepcopy(backbone).to("meta").eval().blocks.values()):
        x = block(x)
        if x.dim() != 4:
            break
        found[x.shape[-1]] = (number, x.shape[1], fold * round(shape[-1] / x.shape[-1]))
    return list(found.values())
