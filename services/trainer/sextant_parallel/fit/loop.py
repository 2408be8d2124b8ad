"""The loop of a run: steps, checkpoints, and changes of the plan.

Batches are a pure function of the step and of rows of the global batch, so that no change of layout changes which
samples a step sees. A restart over other ranks, by torchrun or by hand, goes on from the last whole checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sextant_parallel.fit.checkpoints import Checkpoints
from sextant_parallel.fit.rebalancer import Offer, Rebalancer
from sextant_parallel.runtime.apply import MakeOptimizer, Runtime, SumLoss, apply
from sextant_planner.plan import ParallelPlan
from sextant_planner.rebalancing import Grade

Batches = Callable[[int, slice], tuple[Tensor, Tensor]]
"""(step, rows of the global batch) -> (inputs, targets) of those rows."""


@dataclass(frozen=True, slots=True)
class Training:
    """What is to be trained, and how far."""

    model: Callable[[], nn.Module]
    """Makes the whole model, the same on every rank."""
    batches: Batches
    loss: SumLoss
    optimizer: MakeOptimizer
    steps: int
    clip_norm: float | None = None
    rate: Callable[[int], float] | None = None
    """The step, from 0 -> what the optimizer's learning rate is multiplied by."""
    seed: int = 0
    """What dropout and the like draw from, with the step and the data-parallel rank: a resumed run draws the same."""


@dataclass(frozen=True, slots=True)
class Switch:
    """A change of the plan: from which step on, how it was made, and why."""

    step: int
    grade: Grade
    reason: str
    plan: str
    seconds: float


@dataclass(slots=True)
class History:
    """What became of a run in this process."""

    began_at: int = 0
    stopped: bool = False
    """Whether the watcher stopped it before its last step."""
    losses: dict[int, float] = field(default_factory=dict)
    step_s: list[float] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)
    save_s: list[float] = field(default_factory=list)
    """Seconds for which each checkpoint kept the steps waiting."""


class Watcher:
    """What goes on beside the steps, on every rank alike. As it is it does nothing; override what is needed."""

    stoppable = False
    """Whether `wants_to_stop` is asked after each step, at the cost of one small collective."""

    def began(self, run: Fit) -> None:
        """`run.runtime` is new: at the beginning, before anything is loaded, and after a change of the mesh."""

    def stepped(self, run: Fit, loss: float) -> None:
        """`run.step` steps are done."""

    def wants_to_stop(self) -> bool:
        """Whether this rank wants the run to save and end. One rank is enough."""
        return False

    def extra(self) -> dict[str, Any]:
        """What belongs into a checkpoint besides: plain numbers, texts, and tensors in the layout of the runtime."""
        return {}

    def restore(self, extra: dict[str, Any]) -> None:
        """What `extra` gave when the checkpoint was made, in the layout that the runtime has now."""


class Fit:
    """One rank's part of a run. Every rank makes it alike."""

    def __init__(
        self,
        training: Training,
        plan: ParallelPlan,
        checkpoints: Checkpoints,
        *,
        watcher: Watcher | None = None,
        rebalancer: Rebalancer | None = None,
    ) -> None:
        """Without a `rebalancer` the plan stays."""
        self._training, self._checkpoints = training, checkpoints
        self._watcher, self._rebalancer = watcher or Watcher(), rebalancer
        self._rates: list[list[float]] = []
        self.history = History()
        self.step = 0
        """Steps that are done."""
        self.runtime = self._start(plan)
        self._restore(checkpoints.load(self.runtime, self._watcher.extra()))
        self.history.began_at = self.step

    def run(self) -> History:
        """Train to the last step, or until the watcher wants to stop."""
        while self.step < self._training.steps and not self.history.stopped:
            self._step()
            self._checkpoints.tell()
            self.history.stopped = self._stops()
            if self._checkpoints.due(self.step):
                self._save()
            if self._rebalancer:
                left = self._training.steps - self.step
                offer = self._rebalancer.ended_step(self.runtime, left, self._checkpoints.cost_s)
                if offer:
                    self._switch(offer, self._rebalancer)
        self._save()
        self._checkpoints.finish()
        return self.history

    def _step(self) -> None:
        began = time.perf_counter()
        self._set_rates()
        place = (self._training.seed, self.step, self.runtime.mesh.dp_rank)
        torch.manual_seed(hash(place) % 2**63)
        inputs, targets = self._training.batches(self.step, self.runtime.rows)
        loss = float(self.runtime.train_step(inputs, targets))
        self.step += 1
        self.history.losses[self.step] = loss
        self.history.step_s.append(time.perf_counter() - began)
        self._watcher.stepped(self, loss)

    def _set_rates(self) -> None:
        if self._training.rate is None:
            return
        factor = self._training.rate(self.step)
        for optimizer, rates in zip(self.runtime.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor

    def _start(self, plan: ParallelPlan) -> Runtime:
        training = self._training
        runtime = apply(
            training.model, plan, optimizer=training.optimizer, loss=training.loss, clip_norm=training.clip_norm
        )
        self._rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in runtime.optimizers]
        self.runtime = runtime
        if self._rebalancer:
            self._rebalancer.watch(runtime)
        self._watcher.began(self)
        return runtime

    def _restore(self, stored: dict[str, Any] | None) -> None:
        if stored is not None:
            self.step = int(stored["step"])
            self._watcher.restore(stored)

    def _stops(self) -> bool:
        if not self._watcher.stoppable:
            return False
        wants = torch.tensor(float(self._watcher.wants_to_stop()), device=self.runtime.mesh.device)
        if dist.is_initialized():
            dist.all_reduce(wants, dist.ReduceOp.MAX)
        return bool(wants > 0)

    def _save(self) -> None:
        taken = self._checkpoints.save(self.runtime, self.step, self._watcher.extra(), self.history.step_s)
        if taken is not None:
            self.history.save_s.append(taken)

    def _switch(self, offer: Offer, rebalancer: Rebalancer) -> None:
        began = time.perf_counter()
        plan = offer.optimized.plan
        if offer.grade is Grade.RESHARE:
            self.runtime.plan = plan
            rebalancer.restart(self.runtime)
        else:
            _, stored = self._checkpoints.carry(
                self.runtime, lambda: self._start(plan), lambda: {**self._watcher.extra(), "step": self.step}
            )
            self._restore(stored)
        taken = time.perf_counter() - began
        self.history.switches.append(Switch(self.step, offer.grade, offer.reason, plan.describe(), taken))
