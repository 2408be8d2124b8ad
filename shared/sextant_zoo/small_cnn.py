"""A small convolutional network: blocks of convolution, batch normalisation and ReLU, then two linear layers."""

from __future__ import annotations

from torch import nn

from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import SmallCnnConfig


def build(config: SmallCnnConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """For images (channels, height, width). Raises UnknownModelError where they are too small for the depth."""
    if len(input_shape) != 3 or min(input_shape[1:]) < 2**config.depth:
        message = f"depth {config.depth} needs images of {2**config.depth} pixels a side or more, got {input_shape}"
        raise UnknownModelError(message, "model.config.depth")
    channels, height, width = input_shape
    layers: list[nn.Module] = []
    for level in range(config.depth):
        wide = config.channels * 2**level
        layers += [*_convolution(channels, wide), *_convolution(wide, wide), nn.MaxPool2d(2)]
        channels, height, width = wide, height // 2, width // 2
    return nn.Sequential(
        *layers,
        nn.Flatten(),
        nn.Dropout(config.dropout),
        nn.Linear(channels * height * width, config.hidden),
        nn.ReLU(),
        nn.Dropout(config.dropout),
        nn.Linear(config.hidden, classes),
    )


def _convolution(channels: int, wide: int) -> list[nn.Module]:
    # No bias: the normalisation that follows would take it away again.
    return [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
