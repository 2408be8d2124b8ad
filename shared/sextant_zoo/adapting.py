"""Training a part of a model: its head alone, or low-rank changes of its layers (LoRA: Hu et al., 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

DOWN, UP = "low_rank_down", "low_rank_up"


class LowRankLinear(nn.Module):
    """A linear layer whose weight stays, beside a product of two narrow matrices that is trained.

    `weight` and `bias` keep their names, so that a checkpoint of the plain layer is one of this, with two tensors more.
    """

    def __init__(self, layer: nn.Linear, rank: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(layer.weight.detach(), requires_grad=False)
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach(), requires_grad=False)
        self.low_rank_down = nn.Parameter(torch.empty(rank, layer.in_features))
        self.low_rank_up = nn.Parameter(torch.zeros(layer.out_features, rank))
        self.scale = scale
        nn.init.kaiming_uniform_(self.low_rank_down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        changed = functional.linear(functional.linear(x, self.low_rank_down), self.low_rank_up)
        return functional.linear(x, self.weight, self.bias) + self.scale * changed


def freeze(model: nn.Module, head: str = "output") -> None:
    """Leave the parameters of the submodule `head` alone to be trained."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(f"{head}."))


def add_low_rank(model: nn.Module, rank: int, head: str = "output") -> int:
    """Freeze all but `head`, and put a trained low-rank change beside each other linear layer; how many there are.

    The changes begin as nothing, and count twice: their scale is 2, as with the usual alpha of twice the rank.
    """
    freeze(model, head)
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and name.split(".")[0] != head
    ]
    for name, layer in layers:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, LowRankLinear(layer, min(rank, *layer.weight.shape), 2.0))
    return len(layers)


def merged(state: dict[str, Tensor], scale: float = 2.0) -> dict[str, Tensor]:
    """The state of the plain model: each low-rank change is added to its layer's weight."""
    whole = {name: value for name, value in state.items() if name.rpartition(".")[2] not in (DOWN, UP)}
    for name, down in state.items():
        layer, _, last = name.rpartition(".")
        if last == DOWN:
            whole[f"{layer}.weight"] = whole[f"{layer}.weight"] + scale * state[f"{layer}.{UP}"] @ down
    return whole
