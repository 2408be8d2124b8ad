"""The exponential moving average of a run's weights (Polyak and Juditsky, 1992): validated and kept in their place.

In the first steps it forgets faster, so that it is not bound to where it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sextant_parallel.runtime import Runtime


class Average:
    """Of one rank's part of the weights, in the layout of its runtime."""

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._live: dict[str, Tensor] = {}
        self.state: dict[str, Tensor] = {}
        """By name, as `Runtime.state` gives it."""

    def begin(self, runtime: Runtime) -> None:
        """The runtime is new; what is averaged so far is in `state` where the run goes on."""
        self.state, self._live = runtime.state(), runtime.tensors()

    @torch.no_grad()
    def add(self, step: int) -> None:
        """Take in the weights after this step, counted from 1; what is no weight is copied."""
        share = 1.0 - min(self._decay, (1.0 + step) / (10.0 + step))
        for name, mean in self.state.items():
            if mean.is_floating_point():
                mean.lerp_(self._live[name], share)
            else:
                mean.copy_(self._live[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the model have the average as its weights for a while."""
        own = {name: value.detach().clone() for name, value in self._live.items()}
        self._set(self.state)
        try:
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: dict[str, Tensor]) -> None:
        for name, value in self._live.items():
            value.copy_(values[name])
