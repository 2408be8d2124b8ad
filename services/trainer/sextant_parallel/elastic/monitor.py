"""What every rank takes for its steps, known to all: windows of measurements, gathered now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn

from sextant_parallel.runtime.chain import chain_of
from sextant_planner.rebalancing import Window


class Monitor:
    """Measures this rank's compute, and exchanges means with the others every `every` steps.

    Two numbers a rank and window: the cost is one small collective.
    """

    def __init__(self, work: float, every: int = 10, group: dist.ProcessGroup | None = None) -> None:
        """`work`: what this rank has to compute a step, in any unit that all use."""
        self._every, self._group = every, group
        self.restart(work)

    def restart(self, work: float) -> None:
        """Forget what was measured: from now on this rank has so much to compute a step."""
        self._work = work
        self._compute = self._step = 0.0
        self._count = 0
        self._began: float | None = None
        self.windows: list[Window] = []

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Around what this rank computes by itself; waiting for others stays outside."""
        began = time.perf_counter()
        yield
        self.count(time.perf_counter() - began)

    def count(self, seconds: float) -> None:
        """Add what this rank has computed."""
        self._compute += seconds

    def ended_step(self) -> Window | None:
        """Call at the end of each step, on every rank; the window that it completes, if any."""
        now = time.perf_counter()
        if self._began is not None:
            self._step += now - self._began
            self._count += 1
        else:
            # The first step warms everything up and does not count.
            self._compute = 0.0
        self._began = now
        if self._count < self._every:
            return None
        window = self._gather(self._compute / self._count, self._step / self._count)
        self.windows.append(window)
        self._compute = self._step = 0.0
        self._count = 0
        return window

    def _gather(self, compute_s: float, step_s: float) -> Window:
        mine = torch.tensor([compute_s, step_s, self._work], dtype=torch.float64)
        if not dist.is_initialized():
            return Window(compute_s=(compute_s,), work=(self._work,), step_s=step_s)
        all_ = [torch.zeros_like(mine) for _ in range(dist.get_world_size(self._group))]
        dist.all_gather(all_, mine, group=self._group)
        return Window(
            compute_s=tuple(float(each[0]) for each in all_),
            work=tuple(float(each[2]) for each in all_),
            step_s=max(float(each[1]) for each in all_),
        )


def timing_forward(module: nn.Module, monitor: Monitor) -> None:
    """Count the forward passes of a module's blocks as this rank's compute.

    Between ranks of data parallelism and stages of a pipeline nothing waits inside of a block's forward pass. Ranks of
    one tensor-parallel group do, and show the speed of the slowest of them: which is what the group goes at.
    """
    for block in chain_of(module).blocks.values():
        began: list[float] = []
        block.register_forward_pre_hook(lambda _m, _a, began=began: began.append(time.perf_counter()))
        block.register_forward_hook(lambda _m, _a, _o, began=began: monitor.count(time.perf_counter() - began.pop()))
