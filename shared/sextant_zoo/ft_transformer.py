"""FT-Transformer (Gorishniy et al., 2021): each column of a table is a token, and a class token gathers them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.blocks import Block, BlockModel
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import FtTransformerConfig
from sextant_zoo.tables import check_columns, spans
from sextant_zoo.transformer import initialise, layer_of


class Columns(Block):
    """Each number times a vector of its column, or the vector of its category; before them the class token."""

    kind: ClassVar[str] = "columns"
    sequence: ClassVar[str] = "whole"

    def __init__(self, columns: Sequence[int], hidden: int) -> None:
        super().__init__()
        bound = hidden**-0.5
        self.spans = spans(columns) if any(width > 1 for width in columns) else None
        features = sum(max(1, width) for width in columns)
        self.weight = nn.Parameter(torch.empty(features, hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(len(columns), hidden).uniform_(-bound, bound))
        self.token = nn.Parameter(torch.empty(1, hidden).uniform_(-bound, bound))

    def forward(self, rows: Tensor) -> Tensor:
        """(batch, features) -> (batch, 1 + columns, hidden)."""
        if self.spans is None:
            tokens = rows[:, :, None] * self.weight
        else:
            tokens = torch.stack([rows[:, first:end] @ self.weight[first:end] for first, end in self.spans], 1)
        tokens = tokens + self.bias
        return torch.cat([self.token.expand(rows.shape[0], -1, -1), tokens], 1)


class TokenHead(Block):
    """Logits from the class token."""

    kind: ClassVar[str] = "classifier"
    sequence: ClassVar[str] = "whole"

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.output = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, 1 + columns, hidden) -> (batch, classes)."""
        logits: Tensor = self.output(functional.relu(self.norm(x[:, 0])))
        return logits


def build(config: FtTransformerConfig, input_shape: tuple[int, ...], classes: int) -> BlockModel:
    """For rows (features,). Raises UnknownModelError for other inputs."""
    if len(input_shape) != 1:
        raise UnknownModelError(f"inputs must be rows of a table, got {input_shape}", "model.zoo")
    columns = config.columns or [0] * input_shape[0]
    check_columns(columns, input_shape)
    layers = {f"layer_{index}": layer_of(config) for index in range(config.layers)}
    inner = BlockModel(layers).apply(initialise).blocks
    blocks: dict[str, nn.Module] = {"embed": Columns(columns, config.hidden), **inner}
    return BlockModel({**blocks, "head": TokenHead(config.hidden, classes)})
