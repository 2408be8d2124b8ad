"""A BERT-like encoder (Devlin et al., 2018) with a classifier on the mean of its outputs; normalises before layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from sextant_zoo.blocks import Block, BlockModel
from sextant_zoo.decoder import Embedding
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import EncoderConfig
from sextant_zoo.transformer import initialise, layer_of


class Classifier(Block):
    """Normalises, takes the mean over the sequence, and gives logits."""

    kind: ClassVar[str] = "classifier"
    tensor_rules: ClassVar[Mapping[str, str]] = {}
    sequence: ClassVar[str] = "whole"

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.output = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, sequence, hidden) -> logits (batch, classes)."""
        logits: Tensor = self.output(self.norm(x).mean(1))
        return logits


def build(config: EncoderConfig, input_shape: tuple[int, ...], classes: int) -> BlockModel:
    """From tokens (batch, sequence) to logits (batch, classes). Raises UnknownModelError for too long inputs."""
    if len(input_shape) != 1 or input_shape[0] > config.sequence:
        message = f"inputs must be sequences of at most {config.sequence} tokens, got the shape {input_shape}"
        raise UnknownModelError(message, "model.config.sequence")
    blocks: dict[str, nn.Module] = {"embed": Embedding(config.vocabulary, config.hidden, config.sequence)}
    for index in range(config.layers):
        blocks[f"layer_{index}"] = layer_of(config)
    blocks["head"] = Classifier(config.hidden, classes)
    return BlockModel(blocks).apply(initialise)
