"""Few synchronisations for slow links: ranks train alone for some steps, then agree.

Local SGD (Stich, 2018) averages the parameters. DiLoCo (Douillard et al., 2023) takes the mean change since the last
agreement as a gradient for an outer optimizer with momentum. With an outer rate of 1 and no momentum it is Local SGD.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.optim import SGD


@dataclass(frozen=True, slots=True)
class Outer:
    """The outer optimizer. DiLoCo's own choice is the default; rate 1 and momentum 0 is Local SGD."""

    every: int
    """Steps between agreements."""
    rate: float = 0.7
    momentum: float = 0.9


class LocalSteps:
    """Counts steps, and brings the ranks of a group together when it is time."""

    def __init__(self, module: nn.Module, outer: Outer, group: dist.ProcessGroup | None = None) -> None:
        """Every rank must hold the same parameters at the start."""
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._anchor = [p.detach().clone() for p in self._parameters]
        nesterov = outer.momentum > 0
        self._optimizer = SGD(self._anchor, outer.rate, momentum=outer.momentum, nesterov=nesterov)
        self._outer, self._group = outer, group
        self._size = dist.get_world_size(group) if dist.is_initialized() else 1
        self._steps = 0

    def step(self) -> bool:
        """Call after each inner optimizer step; whether the ranks have agreed in it."""
        self._steps += 1
        if self._steps % self._outer.every:
            return False
        self.agree()
        return True

    @torch.no_grad()
    def agree(self) -> None:
        """One outer step: every rank goes on from the same parameters."""
        changes = torch.cat([(a - p).reshape(-1) for a, p in zip(self._anchor, self._parameters, strict=True)])
        if self._size > 1:
            dist.all_reduce(changes, group=self._group)
        changes /= self._size
        at = 0
        for anchor in self._anchor:
            anchor.grad = changes[at : at + anchor.numel()].view_as(anchor)
            at += anchor.numel()
        self._optimizer.step()
        for parameter, anchor in zip(self._parameters, self._anchor, strict=True):
            parameter.copy_(anchor)
