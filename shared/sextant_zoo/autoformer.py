"""Autoformer (Wu et al., 2021): layers that sum a series over its own periods, and take its trend away step by step.

Positions are told by the decomposition alone; there are no marks of hours or days.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.series import check_series, moving_average
from sextant_zoo.settings import AutoformerConfig


class AutoCorrelation(nn.Module):
    """Finds the delays at which queries and keys agree, by Fourier transforms, and sums the values delayed by them."""

    def __init__(self, hidden: int, heads: int, factor: float) -> None:
        super().__init__()
        self.heads, self.factor = heads, factor
        self.q, self.k, self.v = (nn.Linear(hidden, hidden) for _ in range(3))
        self.output = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """(batch, time, hidden), (batch, other time, hidden) -> as the first."""
        steps = x.shape[1]
        q, k, v = self.q(x), _to_length(self.k(memory), steps), _to_length(self.v(memory), steps)
        spectrum = torch.fft.rfft(q, dim=1) * torch.fft.rfft(k, dim=1).conj()
        agreement = torch.fft.irfft(spectrum, n=steps, dim=1).unflatten(-1, (self.heads, -1)).mean((2, 3))
        count = max(1, int(self.factor * math.log(steps)))
        weights, delays = agreement.topk(count, dim=1)
        weights = weights.softmax(1)
        at = (torch.arange(steps, device=x.device)[None, None] + delays[:, :, None]) % steps
        delayed = v[torch.arange(len(v), device=x.device)[:, None, None], at]
        out: Tensor = self.output((delayed * weights[:, :, None, None]).sum(1))
        return out


def _to_length(x: Tensor, steps: int) -> Tensor:
    """Cut, or filled up with zeros."""
    return functional.pad(x[:, :steps], (0, 0, 0, max(0, steps - x.shape[1])))


class FeedForward(nn.Module):
    """Two layers without bias, with GELU between them."""

    def __init__(self, hidden: int, inner: int, dropout: float) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(hidden, inner, bias=False), nn.Linear(inner, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, hidden) -> the same."""
        out: Tensor = self.dropout(self.down(self.dropout(functional.gelu(self.up(x)))))
        return out


class EncoderLayer(nn.Module):
    """Autocorrelation and feed-forward layer; after each the trend is taken away and forgotten."""

    def __init__(self, config: AutoformerConfig) -> None:
        super().__init__()
        self.kernel = config.kernel
        self.own = AutoCorrelation(config.hidden, config.heads, config.factor)
        self.mlp = FeedForward(config.hidden, config.inner or 4 * config.hidden, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, hidden) -> the same."""
        x = x + self.dropout(self.own(x, x))
        x = x - moving_average(x, self.kernel)
        x = x + self.mlp(x)
        return x - moving_average(x, self.kernel)


class DecoderLayer(nn.Module):
    """As the encoder's, with the encoder's result between; the trends are collected."""

    def __init__(self, config: AutoformerConfig, columns: int) -> None:
        super().__init__()
        self.kernel = config.kernel
        self.own = AutoCorrelation(config.hidden, config.heads, config.factor)
        self.cross = AutoCorrelation(config.hidden, config.heads, config.factor)
        self.mlp = FeedForward(config.hidden, config.inner or 4 * config.hidden, config.dropout)
        self.dropout = nn.Dropout(config.dropout)
        self.trend = nn.Conv1d(config.hidden, columns, 3, padding=1, padding_mode="circular", bias=False)

    def forward(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, hidden) twice -> the season, and the trend (batch, time, columns)."""
        x = x + self.dropout(self.own(x, x))
        first = moving_average(x, self.kernel)
        x = x - first
        x = x + self.dropout(self.cross(x, memory))
        second = moving_average(x, self.kernel)
        x = x - second
        x = x + self.mlp(x)
        third = moving_average(x, self.kernel)
        trend: Tensor = self.trend((first + second + third).transpose(1, 2))
        return x - third, trend.transpose(1, 2)


class Autoformer(nn.Module):
    """(batch, time, columns) -> (batch, horizon, columns)."""

    def __init__(self, config: AutoformerConfig, steps: int, columns: int, horizon: int) -> None:
        super().__init__()
        self.kernel, self.horizon, self.known = config.kernel, horizon, steps // 2
        self.embed_encoder, self.embed_decoder = (
            nn.Conv1d(columns, config.hidden, 3, padding=1, padding_mode="circular", bias=False) for _ in range(2)
        )
        self.encoder = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.decoder = nn.ModuleList(DecoderLayer(config, columns) for _ in range(config.decoder_layers))
        self.encoder_norm, self.decoder_norm = nn.LayerNorm(config.hidden), nn.LayerNorm(config.hidden)
        self.output = nn.Linear(config.hidden, columns)

    def forward(self, series: Tensor) -> Tensor:
        """(batch, time, columns) -> (batch, horizon, columns)."""
        trend = moving_average(series, self.kernel)
        season = (series - trend)[:, -self.known :]
        season = functional.pad(season, (0, 0, 0, self.horizon))
        mean = series.mean(1, keepdim=True).expand(-1, self.horizon, -1)
        trend = torch.cat([trend[:, -self.known :], mean], 1)
        memory = self.embed_encoder(series.transpose(1, 2)).transpose(1, 2)
        for layer in self.encoder:
            memory = layer(memory)
        memory = _without_mean(self.encoder_norm(memory))
        x = self.embed_decoder(season.transpose(1, 2)).transpose(1, 2)
        for layer in self.decoder:
            x, added = layer(x, memory)
            trend = trend + added
        out: Tensor = self.output(_without_mean(self.decoder_norm(x))) + trend
        return out[:, -self.horizon :]


def _without_mean(x: Tensor) -> Tensor:
    return x - x.mean(1, keepdim=True)


def build(config: AutoformerConfig, input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """For series (time, columns); `classes` is the horizon. Raises UnknownModelError for other inputs."""
    steps, columns = check_series(input_shape, classes)
    return Autoformer(config, steps, columns, classes)
