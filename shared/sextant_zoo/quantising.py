"""Quantisation-aware training (Jacob et al., 2018): layers compute as they will in eight bits, and learn to bear it.

Weights are rounded to 255 steps by output channel, symmetric around zero: so a normalisation behind, which scales
channels, can be folded into them later and changes nothing of it. What comes in is rounded to 256 steps between the
least and the greatest value that are there, zero among them. Gradients pass as if nothing was rounded, but for values
that were cut off. There is no state besides: the weights are those of the plain model, under the same names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SKIPPED = "output"
"""The layer of this name, which gives the results, stays as it is."""


def rounded_weight(weight: Tensor) -> Tensor:
    """(channels, ...) -> the same, on steps of its own for each channel."""
    scale = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-12) / 127
    zero = torch.zeros(len(scale), dtype=torch.int32, device=weight.device)
    rounded: Tensor = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)
    return rounded


def rounded_input(x: Tensor) -> Tensor:
    """The same shape, on 256 steps."""
    low, high = torch.aminmax(x.detach())
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = ((high - low) / 255).clamp(min=1e-12)
    zero = (-low / scale).round().clamp(0, 255).to(torch.int32)
    rounded: Tensor = torch.fake_quantize_per_tensor_affine(x, scale, zero, 0, 255)
    return rounded


class RoundedConvolution(nn.Conv2d):
    """A convolution that computes on rounded numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> as the plain one."""
        made: Tensor = self._conv_forward(rounded_input(x), rounded_weight(self.weight), self.bias)
        return made


class RoundedLinear(nn.Linear):
    """A linear layer that computes on rounded numbers."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return functional.linear(rounded_input(x), rounded_weight(self.weight), self.bias)


ROUNDED: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: RoundedConvolution, nn.Linear: RoundedLinear}


def round_layers(model: nn.Module) -> int:
    """Let the convolutions and linear layers of a model compute on rounded numbers, in place; how many there are.

    The tensors stay, under the same names. Layers whose name ends with `output` are left out.
    """
    layers = [
        module
        for name, module in model.named_modules()
        if type(module) in ROUNDED and name.rpartition(".")[2] != SKIPPED
    ]
    for layer in layers:
        layer.__class__ = ROUNDED[type(layer)]
    return len(layers)
