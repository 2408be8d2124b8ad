"""PatchTST (Nie et al., 2023): overlapping patches of each column on its own, windows normalised, batch norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.series import check_series, window_scale
from sextant_zoo.settings import PatchtstConfig


class BatchNormalised(nn.Module):
    """Batch normalisation of the last dimension."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, patches, hidden) -> the same."""
        out: Tensor = self.norm(x.transpose(1, 2))
        return out.transpose(1, 2)


class PatchLayer(nn.Module):
    """Attention that adds the scores of the layer before (He et al., 2021), then a feed-forward layer."""

    def __init__(self, hidden: int, heads: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.output = nn.Linear(hidden, hidden)
        self.attention_norm = BatchNormalised(hidden)
        self.up, self.down = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.mlp_norm = BatchNormalised(hidden)

    def forward(self, x: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
        """(batch, patches, hidden) and scores (batch, heads, patches, patches) -> the same."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if before is not None:
            scores = scores + before
        attended = self.output((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        x = self.attention_norm(x + self._drop(attended))
        inner = self._drop(functional.gelu(self.up(x)))
        return self.mlp_norm(x + self._drop(self.down(inner))), scores

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


class Patchtst(nn.Module):
    """(batch, time, columns) -> (batch, horizon, columns)."""

    def __init__(self, config: PatchtstConfig, steps: int, horizon: int) -> None:
        super().__init__()
        self.patch, self.stride, self.dropout = config.patch, config.stride, config.dropout
        patches = (steps - config.patch) // config.stride + 2
        self.project = nn.Linear(config.patch, config.hidden)
        self.positions = nn.Parameter(torch.empty(patches, config.hidden).uniform_(-0.02, 0.02))
        inner = config.inner or 4 * config.hidden
        self.layers = nn.ModuleList(
            PatchLayer(config.hidden, config.heads, inner, config.dropout) for _ in range(config.layers)
        )
        self.head_dropout = config.head_dropout
        self.output = nn.Linear(patches * config.hidden, horizon)

    def forward(self, series: Tensor) -> Tensor:
        """(batch, time, columns) -> (batch, horizon, columns)."""
        mean, deviation = window_scale(series)
        columns = ((series - mean) / deviation).transpose(1, 2)
        # The last value repeated makes one more patch.
        columns = torch.cat([columns, columns[..., -1:].expand(-1, -1, self.stride)], -1)
        cut = columns.unfold(-1, self.patch, self.stride)
        x: Tensor = self.project(cut.flatten(0, 1)) + self.positions
        x = functional.dropout(x, self.dropout, self.training)
        scores: Tensor | None = None
        for layer in self.layers:
            x, scores = layer(x, scores)
        flat = functional.dropout(x.flatten(1), self.head_dropout, self.training)
        steps: Tensor = self.output(flat)
        return steps.view(-1, columns.shape[1], steps.shape[1]).transpose(1, 2) * deviation + mean


def build(config: PatchtstConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """For series (time, columns); `classes` is the horizon. Raises UnknownModelError for too short ones."""
    steps, _ = check_series(input_shape, classes, config.patch)
    return Patchtst(config, steps, classes)
