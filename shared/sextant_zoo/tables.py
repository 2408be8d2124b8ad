"""How the columns of a table reach a model: numbers by functions that are learnt, categories as the data has them.

`columns` says how many features, which stand in this order, each column has: 0 for a number, else its categories.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sextant_zoo.errors import UnknownModelError


def check_columns(columns: Sequence[int], input_shape: tuple[int, ...]) -> None:
    """Raise UnknownModelError where inputs are no rows of as many features."""
    if input_shape != (features := sum(max(1, width) for width in columns),):
        message = f"columns have {features} features together, and inputs have the shape {input_shape}"
        raise UnknownModelError(message, "model.config.columns")


def spans(columns: Sequence[int]) -> list[tuple[int, int]]:
    """The first feature of each column, and the one behind its last."""
    ends = [sum(max(1, width) for width in columns[: index + 1]) for index in range(len(columns))]
    return list(zip([0, *ends], ends, strict=False))


class NumberEmbedding(nn.Module):
    """Each number by sines and cosines of learnt frequencies, and a layer of its own (PLR: Gorishniy et al., 2022)."""

    def __init__(self, numbers: int, frequencies: int, width: int, scale: float) -> None:
        super().__init__()
        bound = (2 * frequencies) ** -0.5
        self.frequencies = nn.Parameter(torch.randn(numbers, frequencies) * scale)
        self.weight = nn.Parameter(torch.empty(numbers, 2 * frequencies, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(numbers, 1, width).uniform_(-bound, bound))

    def forward(self, numbers: Tensor) -> Tensor:
        """(batch, numbers) -> (batch, numbers * width)."""
        angles = 2 * math.pi * numbers.unsqueeze(-1) * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], -1).transpose(0, 1)
        return torch.relu(waves @ self.weight + self.bias).transpose(0, 1).flatten(1)


class TableInput(nn.Module):
    """Rows whose numbers are embedded, with the other features behind them."""

    numbers: Tensor
    others: Tensor

    def __init__(self, columns: Sequence[int], frequencies: int, width: int, scale: float) -> None:
        super().__init__()
        at = [(first, number == 0) for (first, _), number in zip(spans(columns), columns, strict=True)]
        numbers = [first for first, is_number in at if is_number]
        others = sorted(set(range(sum(max(1, width) for width in columns))) - set(numbers))
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64), persistent=False)
        self.register_buffer("others", torch.tensor(others, dtype=torch.int64), persistent=False)
        self.embedding = NumberEmbedding(len(numbers), frequencies, width, scale) if numbers else None
        self.width = len(numbers) * width + len(others)

    def forward(self, rows: Tensor) -> Tensor:
        """(batch, features) -> (batch, width)."""
        others = rows.index_select(1, self.others)
        if self.embedding is None:
            return others
        return torch.cat([self.embedding(rows.index_select(1, self.numbers)), others], 1)
