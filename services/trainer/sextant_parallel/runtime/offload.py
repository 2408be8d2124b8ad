"""Optimizer states in host memory: brought to the device for the step of one block after the other, and taken back.

The arithmetic is the device's, so the result is that of an optimizer that is not offloaded, to the last bit. A step
moves all states twice; on the device there are those of one block at a time (compare ZeRO-Offload, Ren et al., 2021,
which computes on the host and moves gradients and parameters in their place).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim import Optimizer

from sextant_parallel.runtime.parts import local


class HostStates:
    """Steps optimizers whose states live on the host. On a processor they do anyway, and nothing is moved."""

    def __init__(self, optimizers: Sequence[Optimizer], *, move: bool) -> None:
        self._optimizers = optimizers
        self._move = move
        self._kept: dict[int, Tensor] = {}
        """By the identity of a state on the device, its content on the host; its device memory is given up."""

    def step(self) -> None:
        """One step of each optimizer."""
        for optimizer in self._optimizers:
            self._bring(optimizer)
            optimizer.step()
            self._take(optimizer)

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """All states on the device, to be saved or loaded."""
        for optimizer in self._optimizers:
            self._bring(optimizer)
        try:
            yield
        finally:
            for optimizer in self._optimizers:
                self._take(optimizer)

    def _bring(self, optimizer: Optimizer) -> None:
        for state in self._states(optimizer):
            kept = self._kept.pop(id(state), None)
            if kept is not None:
                storage = state.untyped_storage()
                storage.resize_(kept.numel() * kept.element_size())
                state.copy_(kept, non_blocking=True)

    def _take(self, optimizer: Optimizer) -> None:
        for state in self._states(optimizer):
            kept = torch.empty(state.shape, dtype=state.dtype, pin_memory=state.is_cuda)
            kept.copy_(state)
            self._kept[id(state)] = kept
            state.untyped_storage().resize_(0)

    def _states(self, optimizer: Optimizer) -> Iterator[Tensor]:
        if not self._move:
            return
        for states in optimizer.state.values():
            for value in states.values():
                # Step counters stay where the optimizer has made them.
                if isinstance(value, Tensor) and value.dim() > 0:
                    yield _inner(value)


def _inner(value: Tensor) -> Tensor:
    inner: Tensor = local(value)
    return inner
