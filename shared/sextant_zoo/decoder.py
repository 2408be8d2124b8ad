"""A causal language model: Llama-like (RMSNorm, rotary positions, gated layers) or GPT-like (LayerNorm, learned)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from sextant_zoo.blocks import Block, BlockModel
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import DecoderConfig
from sextant_zoo.transformer import RMSNorm, TransformerLayer, initialise


class Embedding(Block):
    """Tokens to vectors; learned positions are added where there are any."""

    kind: ClassVar[str] = "embedding"
    tensor_rules: ClassVar[Mapping[str, str]] = {"tokens": "embedding"}
    sequence: ClassVar[str] = "tokens"

    def __init__(self, vocabulary: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, hidden)
        self.positions = nn.Embedding(positions, hidden) if positions else None
        self.sequence_start = 0
        self._limit = vocabulary

    @property
    def tensor_limit(self) -> int:
        """The size of the vocabulary."""
        return self._limit

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, sequence) int64 -> (batch, sequence, hidden)."""
        out: Tensor = self.tokens(tokens)
        if self.positions is not None:
            at = torch.arange(self.sequence_start, self.sequence_start + tokens.shape[1], device=tokens.device)
            out = out + self.positions(at)
        return out


class Head(Block):
    """The last normalisation, and the logits of the next token."""

    kind: ClassVar[str] = "head"
    tensor_rules: ClassVar[Mapping[str, str]] = {"output": "column-gathered"}
    sequence: ClassVar[str] = "tokens"

    def __init__(self, hidden: int, vocabulary: int, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm
        self.output = nn.Linear(hidden, vocabulary, bias=False)
        self._limit = vocabulary

    @property
    def tensor_limit(self) -> int:
        """The size of the vocabulary."""
        return self._limit

    def forward(self, x: Tensor) -> Tensor:
        """(batch, sequence, hidden) -> logits (batch, sequence, vocabulary)."""
        logits: Tensor = self.output(self.norm(x))
        return logits


def _gated_width(hidden: int) -> int:
    """As many parameters as two layers of 4 * hidden, rounded up to what devices, and degrees, divide well."""
    return -(-8 * hidden // 3 // 64) * 64


def build(config: DecoderConfig, input_shape: tuple[int, ...], classes: int) -> BlockModel:
    """From tokens (batch, sequence) to logits (batch, sequence, vocabulary); `classes` is the vocabulary's size.

    Raises UnknownModelError where the input is longer than `sequence`, or `classes` is not the vocabulary's size.
    """
    if len(input_shape) != 1 or input_shape[0] > config.sequence:
        message = f"inputs must be sequences of at most {config.sequence} tokens, got the shape {input_shape}"
        raise UnknownModelError(message, "model.config.sequence")
    if classes != config.vocabulary:
        message = f"vocabulary is {config.vocabulary}, and the data has {classes} tokens"
        raise UnknownModelError(message, "model.config.vocabulary")
    llama = config.style == "llama"
    inner = config.inner or (_gated_width(config.hidden) if llama else 4 * config.hidden)
    blocks: dict[str, nn.Module] = {
        "embed": Embedding(config.vocabulary, config.hidden, 0 if llama else config.sequence)
    }
    for index in range(config.layers):
        blocks[f"layer_{index}"] = TransformerLayer(
            config.hidden,
            config.heads,
            inner,
            key_heads=config.key_heads,
            causal=True,
            rotary=llama,
            gated=llama,
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
        )
    norm = RMSNorm(config.hidden) if llama else nn.LayerNorm(config.hidden)
    blocks["head"] = Head(config.hidden, config.vocabulary, norm)
    return BlockModel(blocks).apply(initialise)
