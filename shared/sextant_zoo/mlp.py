"""Fully connected layers with ReLU and dropout."""

from __future__ import annotations

import math

from torch import nn

from sextant_zoo.settings import MlpConfig


def build(config: MlpConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """For inputs of any shape, which are flattened first."""
    width = math.prod(input_shape)
    layers: list[nn.Module] = [nn.Flatten()]
    for _ in range(config.depth):
        layers += [nn.Linear(width, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)]
        width = config.hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))
