"""Data parallelism: every rank holds the model, takes a share of each global batch, and all take the same step.

The gradients are those of one process with the whole batch, for even and uneven shares alike: a rank's loss is the sum
over its samples divided by the size of the global batch, times the number of ranks, since torch's
DistributedDataParallel averages over ranks. Batch normalisation sees the local share, as it does there; its running
statistics are averaged over the ranks when asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sextant_parallel.world import World

SumLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits, targets) -> the sum of the losses of the samples, a scalar."""


class DataParallel:
    """Runs the forward and backward passes of a model over the ranks of a world."""

    def __init__(self, model: nn.Module, world: World) -> None:
        """Every rank must hold the same parameters already, or rank 0's are taken over."""
        self.module = model
        self._world = world
        self._replica: nn.Module = model
        if world.size > 1:
            # From torch 2.13 on the flag has another name, and the old one warns; 2.11 knows the old one alone.
            warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
            self._replica = DistributedDataParallel(model, broadcast_buffers=False, gradient_as_bucket_view=True)

    def backward(self, inputs: Tensor, targets: Tensor, global_rows: int, loss: SumLoss) -> float:
        """Add the gradients of the mean loss over the global batch; returns the sum of the local losses.

        Every rank calls it at each step. One with an empty share passes any one row with `global_rows` 0: it then
        takes part in the reduction and adds nothing.
        """
        total = loss(self._replica(inputs), targets)
        scale = self._world.size / global_rows if global_rows else 0.0
        torch.autograd.backward(total * scale)
        return float(total.detach()) if global_rows else 0.0

    def average_buffers(self) -> None:
        """Make running statistics the same on all ranks; before validation and before a checkpoint."""
        for buffer in self.module.buffers():
            if buffer.is_floating_point():
                self._world.sum(buffer).div_(self._world.size)
