"""What the transformer families share: normalisation, attention, feed-forward layers, and the layer made of them.

Sources: Vaswani et al., 2017; pre-normalisation, Xiong et al., 2020; RMSNorm, Zhang and Sennrich, 2019; rotary
positions, Su et al., 2021; gated feed-forward layers, Shazeer, 2020; grouped queries, Ainslie et al., 2023. The rules
of tensor parallelism are those of Shoeybi et al., 2019, and Korthikanti et al., 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.blocks import Block
from sextant_zoo.settings import DropoutConfig

LAYER_RULES: Mapping[str, str] = {
    "attention_norm": "sequence-norm",
    "attention": "shared-input",
    "attention.q": "column",
    "attention.k": "column",
    "attention.v": "column",
    "attention.o": "row",
    "mlp_norm": "sequence-norm",
    "mlp": "shared-input",
    "mlp.gate": "column",
    "mlp.up": "column",
    "mlp.down": "row",
}


class RMSNorm(nn.Module):
    """Scales by the root of the mean square over the last dimension."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; computed in float32."""
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return scaled.to(x.dtype) * self.weight.to(x.dtype)


class AttentionCore(nn.Module):
    """Softmax attention, without parameters. Queries may be a part of the sequence that begins at `sequence_start`."""

    def __init__(self, *, causal: bool, rotary: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.causal, self.rotary, self.dropout = causal, rotary, dropout
        self.sequence_start = 0

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(batch, heads, queries, width), twice (batch, key heads, sequence, width) -> as the queries."""
        if self.rotary:
            q, k = _rotate(q, self.sequence_start), _rotate(k, 0)
        grouped = q.shape[1] != k.shape[1]
        whole = q.shape[2] == k.shape[2]
        mask = None if whole or not self.causal else self._mask(q.shape[2], k.shape[2], q.device)
        dropout = self.dropout if self.training else 0.0
        return functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=self.causal and whole, enable_gqa=grouped
        )

    def _mask(self, queries: int, keys: int, device: torch.device) -> Tensor:
        at = torch.arange(queries, device=device) + self.sequence_start
        return at[:, None] >= torch.arange(keys, device=device)


def _rotate(x: Tensor, start: int) -> Tensor:
    """Turn the halves of the last dimension by an angle that grows with the position."""
    half = x.shape[-1] // 2
    rates = 10000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angles = torch.outer(torch.arange(start, start + x.shape[2], device=x.device, dtype=torch.float32), rates)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


class Attention(nn.Module):
    """Multi-head attention. The number of heads follows from the widths, so that a rank may hold a part of them."""

    def __init__(
        self, hidden: int, heads: int, key_heads: int, *, causal: bool, rotary: bool, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.width = hidden // heads
        self.q = nn.Linear(hidden, hidden, bias=False)
        self.k = nn.Linear(hidden, self.width * key_heads, bias=False)
        self.v = nn.Linear(hidden, self.width * key_heads, bias=False)
        self.core = AttentionCore(causal=causal, rotary=rotary, dropout=dropout)
        self.o = nn.Linear(hidden, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, sequence, hidden) -> the same."""
        out = self.core(self._heads(self.q(x)), self._heads(self.k(x)), self._heads(self.v(x)))
        joined: Tensor = self.o(out.transpose(1, 2).flatten(2))
        return joined

    def _heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], -1, self.width).transpose(1, 2)


class Mlp(nn.Module):
    """The feed-forward layer: GELU, or, where gated, SiLU times a second projection."""

    def __init__(self, hidden: int, inner: int, *, gated: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(hidden, inner, bias=False) if gated else None
        self.up = nn.Linear(hidden, inner, bias=not gated)
        self.down = nn.Linear(inner, hidden, bias=not gated)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, sequence, hidden) -> the same."""
        inner = self.up(x)
        inner = functional.gelu(inner) if self.gate is None else functional.silu(self.gate(x)) * inner
        out: Tensor = self.down(inner)
        return out


class TransformerLayer(Block):
    """Attention and feed-forward layer, each after a normalisation and beside a residual."""

    kind: ClassVar[str] = "transformer"
    tensor_rules: ClassVar[Mapping[str, str]] = LAYER_RULES
    attention_names: ClassVar[tuple[str, ...]] = ("attention.core",)
    sequence: ClassVar[str] = "split"

    def __init__(
        self,
        hidden: int,
        heads: int,
        inner: int,
        *,
        key_heads: int | None = None,
        causal: bool = False,
        rotary: bool = False,
        gated: bool = False,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.dropout = dropout
        key_heads = key_heads or heads
        norm = RMSNorm if gated else nn.LayerNorm
        self.attention_norm = norm(hidden)
        self.attention = Attention(hidden, heads, key_heads, causal=causal, rotary=rotary, dropout=attention_dropout)
        self.mlp_norm = norm(hidden)
        self.mlp = Mlp(hidden, inner, gated=gated)
        self._limit = gcd(key_heads, inner)

    @property
    def tensor_limit(self) -> int:
        """Heads of keys, or what divides the inner width too."""
        return self._limit

    def forward(self, x: Tensor) -> Tensor:
        """(batch, sequence, hidden) -> the same."""
        attended = x + self._drop(self.attention(self.attention_norm(x)))
        return attended + self._drop(self.mlp(self.mlp_norm(attended)))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training)


def layer_of(config: DropoutConfig) -> TransformerLayer:
    """A layer of an encoder with these settings."""
    return TransformerLayer(
        config.hidden,
        config.heads,
        config.inner or 4 * config.hidden,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
    )


def initialise(module: nn.Module, std: float = 0.02) -> None:
    """Normal weights of linear layers and embeddings, zero biases; to be given to `Module.apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
