"""Models whose compute is slept: real parameters and real messages, and passes that take a known time.

On two cores eight ranks cannot compute at once, but they can sleep at once: what is measured is then the plan, and the
network it runs on. A rank that holds a part of a block's inner width sleeps that part of the time.
"""

from __future__ import annotations

import time
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sextant_zoo.blocks import Block, BlockModel


class _Slept(torch.autograd.Function):
    """Sleeps in the forward pass, and again in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, forward_s: float, backward_s: float) -> Tensor:
        ctx.seconds = backward_s
        time.sleep(forward_s)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        time.sleep(ctx.seconds)
        return grads[0], None, None


class SleptBlock(Block):
    """(batch, tokens, width) -> the same: two linear layers, and `forward_s` a sample forward, twice that backward.

    Half of the backward pass is for gradients of weights: it is slept on the way to one, `beat`, which counts nothing.
    """

    kind: ClassVar[str] = "slept"
    tensor_rules: ClassVar[dict[str, str]] = {"up": "column", "down": "row"}

    def __init__(self, width: int, inner: int, forward_s: float, slowdown: float = 1.0) -> None:
        super().__init__()
        self.up = nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)
        self.beat = nn.Parameter(torch.zeros(1))
        self.inner, self.forward_s, self.slowdown = inner, forward_s, slowdown

    @property
    def tensor_limit(self) -> int:
        """The inner width."""
        return self.inner

    def forward(self, x: Tensor) -> Tensor:
        """Compute a little and sleep the rest."""
        weight = self.up.weight
        held = weight.to_local() if isinstance(weight, DTensor) else weight
        seconds = self.forward_s * len(x) * self.slowdown * held.shape[0] / self.inner
        slept: Tensor = _Slept.apply(x, seconds, seconds)  # type: ignore[no-untyped-call]
        slept = slept + _Slept.apply(self.beat, 0.0, seconds)  # type: ignore[no-untyped-call]
        made: Tensor = self.down(torch.relu(self.up(slept)))
        return x + made


SHAPES: dict[str, tuple[list[float], int, int, int]] = {
    "even": ([0.004] * 8, 128, 512, 16),
    "front-heavy": ([0.012, 0.008, 0.006, 0.004, 0.003, 0.003, 0.002, 0.002], 128, 512, 16),
    "large-weights": ([0.004] * 8, 384, 1536, 4),
    "large-activations": ([0.005] * 6, 96, 192, 192),
}
"""By name: seconds a sample forward of each block, width, inner width, tokens."""


def build(name: str, slowdown: float = 1.0) -> BlockModel:
    """One of the shapes, initialised alike everywhere."""
    seconds, width, inner, _ = SHAPES[name]
    torch.manual_seed(0)
    blocks = {f"block{number}": SleptBlock(width, inner, each, slowdown) for number, each in enumerate(seconds)}
    return BlockModel(blocks)


def batch(name: str, rows: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets (rows, tokens, width)."""
    _, width, _, tokens = SHAPES[name]
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(rows, tokens, width, generator=generator)
    return inputs, 0.1 * inputs


def loss(outputs: Tensor, targets: Tensor) -> Tensor:
    """The sum of the squares, a mean over positions."""
    return (outputs - targets).square().sum() / targets[0].numel()


def optimizer(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Plain gradient descent."""
    return torch.optim.SGD(groups, lr=1e-3)
