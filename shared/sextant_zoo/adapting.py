"""Training a part of a model: its head alone, or low-rank changes of its layers (LoRA: Hu et al., 2021)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_zoo.heads import head_name, parameters_of

DOWN, UP = "low_rank_down", "low_rank_up"


class LowRankLinear(nn.Module):
    """A linear layer whose weight stays, beside a product of two narrow matrices that is trained.

    `weight` and `bias` keep their names, so that a checkpoint of the plain layer is one of this, with two tensors more.
    """

    replaces_layer: ClassVar[bool] = True

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


class StillNorm(nn.Module):
    """A batch normalisation by what was known before, in training too: the batch changes nothing of it.

    No batch normalisation to others, so that nothing takes it for one whose batches are spread over ranks. Its tensors
    keep their names.
    """

    replaces_layer: ClassVar[bool] = True
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias
        for name, buffer in norm.named_buffers():
            self.register_buffer(name, buffer)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, ...) -> the same."""
        return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def freeze(model: nn.Module) -> int:
    """Leave the parameters of the head alone to be trained, and what batches are normalised by as it is; how many."""
    trained = parameters_of(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            _put(model, name, StillNorm(module))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return len(trained)


def add_low_rank(model: nn.Module, rank: int) -> int:
    """Freeze all but the head, and put a trained low-rank change beside each other linear layer; how many there are.

    The changes begin as nothing, and count twice: their scale is 2, as with the usual alpha of twice the rank.
    """
    freeze(model)
    head = f"{head_name(model)}."
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not f"{name}.".startswith(head)
    ]
    for name, layer in layers:
        _put(model, name, LowRankLinear(layer, min(rank, *layer.weight.shape), 2.0))
    return len(layers)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def merged(state: dict[str, Tensor], scale: float = 2.0) -> dict[str, Tensor]:
    """The state of the plain model: each low-rank change is added to its layer's weight."""
    whole = {name: value for name, value in state.items() if name.rpartition(".")[2] not in (DOWN, UP)}
    for name, down in state.items():
        layer, _, last = name.rpartition(".")
        if last == DOWN:
            whole[f"{layer}.weight"] = whole[f"{layer}.weight"] + scale * state[f"{layer}.{UP}"] @ down
    return whole
