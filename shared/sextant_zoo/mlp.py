"""Fully connected layers with ReLU and dropout; for tables also with embeddings of the numbers."""

from __future__ import annotations

import math

from torch import nn

from sextant_zoo.settings import MlpConfig
from sextant_zoo.tables import TableInput, check_columns


def build(config: MlpConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """For inputs of any shape, which are flattened first. Raises UnknownModelError where `columns` are others."""
    width = math.prod(input_shape)
    layers: list[nn.Module] = [nn.Flatten()]
    if config.frequencies:
        columns = config.columns or [0] * width
        check_columns(columns, input_shape)
        table = TableInput(columns, config.frequencies, config.embedding, config.frequency_scale)
        layers, width = [table], table.width
    for _ in range(config.depth):
        layers += [nn.Linear(width, config.hidden), nn.ReLU(), nn.Dropout(config.dropout)]
        width = config.hidden
    return nn.Sequential(*layers, nn.Linear(width, classes))
