"""A vision transformer (Dosovitskiy et al., 2020), with the mean over the patches in place of a class token."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from sextant_zoo.blocks import Block, BlockModel
from sextant_zoo.encoder import Classifier
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import VitConfig
from sextant_zoo.transformer import initialise, layer_of


class Patches(Block):
    """Images to a sequence of patches, as vectors with learned positions."""

    kind: ClassVar[str] = "patches"
    sequence: ClassVar[str] = "whole"

    def __init__(self, channels: int, patch: int, patches: int, hidden: int) -> None:
        super().__init__()
        self.patch = patch
        self.project = nn.Linear(channels * patch * patch, hidden)
        self.positions = nn.Parameter(torch.randn(patches, hidden) * 0.02)

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, patches, hidden)."""
        side = self.patch
        batch, channels, height, width = images.shape
        tiles = images.view(batch, channels, height // side, side, width // side, side)
        out: Tensor = self.project(tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        return out + self.positions


def build(config: VitConfig, input_shape: tuple[int, ...], classes: int) -> BlockModel:
    """For images (channels, height, width). Raises UnknownModelError where they are no multiple of the patch."""
    if len(input_shape) != 3 or input_shape[1] % config.patch or input_shape[2] % config.patch:
        message = f"images must be a multiple of patch ({config.patch}) high and wide, got {input_shape}"
        raise UnknownModelError(message, "model.config.patch")
    channels, height, width = input_shape
    patches = (height // config.patch) * (width // config.patch)
    blocks: dict[str, nn.Module] = {"embed": Patches(channels, config.patch, patches, config.hidden)}
    for index in range(config.layers):
        blocks[f"layer_{index}"] = layer_of(config)
    blocks["head"] = Classifier(config.hidden, classes)
    return BlockModel(blocks).apply(initialise)
