"""Training to the end, whatever becomes of the ranks: plan, run, save, watch, plan again.

Batches are a pure function of the step and of rows of the global batch, so that no change of layout changes which
samples a step sees. A restart over fewer ranks, by torchrun or by hand, goes on from the last whole checkpoint.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor, nn

from sextant_parallel.checkpoint import Saver
from sextant_parallel.elastic.monitor import Monitor, timing_forward
from sextant_parallel.optimized import OptimizedPlan
from sextant_parallel.runtime.apply import MakeOptimizer, Runtime, SumLoss, apply
from sextant_planner.cluster import Cluster
from sextant_planner.plan import ParallelPlan
from sextant_planner.rebalancing import Grade, Policy, checkpoint_every, grade, observed_cluster, trigger, worth_it

Batches = Callable[[int, slice], tuple[Tensor, Tensor]]
"""(step, rows of the global batch) -> (inputs, targets) of those rows."""
Replan = Callable[[Cluster], OptimizedPlan]
KEPT = 2
LATEST = "latest"
FIRST_INTERVAL = 10
FIRST_GUESS_S = 0.25
"""What a checkpoint is taken to cost before one was made."""
T = TypeVar("T")


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
    losses: dict[int, float] = field(default_factory=dict)
    step_s: list[float] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)
    save_s: list[float] = field(default_factory=list)
    """Seconds for which each checkpoint kept the steps waiting."""


class Fit:
    """One rank's part of a run. Every rank makes it alike."""

    def __init__(
        self,
        training: Training,
        optimized: OptimizedPlan,
        cluster: Cluster,
        directory: Path,
        *,
        replan: Replan,
        every: int | None = None,
        policy: Policy | None = None,
        window: int = 10,
        on_step: Callable[[int, float], None] | None = None,
    ) -> None:
        """`directory` is shared by all ranks, and holds the checkpoints. `every`: steps between checkpoints; without
        it as many as keep saving under 5 % of the time. `replan` plans anew for a cluster as it was observed.
        """
        self._training, self._cluster, self._directory, self._replan = training, cluster, directory, replan
        self._policy, self._on_step = policy or Policy(), on_step
        self._fixed, self._interval, self._save_s = every is not None, every or FIRST_INTERVAL, FIRST_GUESS_S
        self._optimized = optimized
        self._saver = Saver()
        self._unnamed: str | None = None
        self._saved = -1
        self.history = History()
        self._monitor = Monitor(samples=0.0, every=window)
        self.runtime = self._start(optimized.plan)
        self.step = self._load()
        self.history.began_at = self.step

    def run(self) -> History:
        """Train to the last step."""
        while self.step < self._training.steps:
            began = time.perf_counter()
            inputs, targets = self._training.batches(self.step, self.runtime.rows)
            loss = float(self.runtime.train_step(inputs, targets))
            self.step += 1
            self.history.losses[self.step] = loss
            self.history.step_s.append(time.perf_counter() - began)
            if self._on_step:
                self._on_step(self.step, loss)
            self._name_what_is_whole()
            if self.step % self._interval == 0:
                self._save()
            if self._monitor.ended_step():
                self._rebalance()
        self._save()
        self._finish_saving()
        return self.history

    def _start(self, plan: ParallelPlan) -> Runtime:
        training = self._training
        runtime = apply(
            training.model, plan, optimizer=training.optimizer, loss=training.loss, clip_norm=training.clip_norm
        )
        timing_forward(runtime.module, self._monitor)
        self._monitor.restart(_share(runtime))
        return runtime

    def _rebalance(self) -> None:
        """Look at the last windows; change the plan where that pays. All ranks decide alike, from the same figures."""
        monitor, plan = self._monitor, self.runtime.plan
        measured = monitor.windows[-1].step_s
        seen = trigger(monitor.windows, max(self._optimized.prediction.step_s, self._quickest()), self._policy)
        if seen is None:
            return
        cluster = observed_cluster(self._cluster, monitor.windows[-self._policy.windows :])
        offered = self._replan(cluster)
        left = self._training.steps - self.step
        now = self._predicted(plan, cluster)
        how = grade(plan, offered.plan)
        gain = offered.prediction.step_s / now if now else 1.0
        if offered.plan == plan or not worth_it(measured, measured * gain, left, self._cost(how), self._policy):
            return
        self._switch(offered, how, seen)

    def _switch(self, offered: OptimizedPlan, how: Grade, reason: str) -> None:
        began = time.perf_counter()
        if how is Grade.RESHARE:
            self.runtime.plan = offered.plan
            self._monitor.restart(_share(self.runtime))
        else:
            self._save()
            self._finish_saving()
            self.runtime = self._start(offered.plan)
            self.step = self._load()
        self._optimized = offered
        taken = time.perf_counter() - began
        self.history.switches.append(Switch(self.step, how, str(reason), offered.plan.describe(), taken))

    def _predicted(self, plan: ParallelPlan, cluster: Cluster) -> float:
        """Seconds of a step of the present plan on the cluster as it is, by the same model as the offer's."""
        return self._optimized.predicted_on(cluster, plan)

    def _quickest(self) -> float:
        return min(window.step_s for window in self._monitor.windows)

    def _cost(self, how: Grade) -> float:
        """Seconds that a switch takes, from what saving has taken here."""
        if how is Grade.RESHARE:
            return 0.0
        return 4 * self._save_s

    def _learn(self, saved_s: float) -> None:
        """Take rank 0's figures for what saving costs, and for how often that allows it."""
        self.history.save_s.append(saved_s)
        recent = sorted(self.history.step_s[-20:])
        mine = (saved_s, recent[len(recent) // 2] if recent else saved_s)
        self._save_s, step_s = _from_first(mine)
        if not self._fixed:
            self._interval = checkpoint_every(step_s, self._save_s)

    def _save(self) -> None:
        name = f"step-{self.step:09d}"
        if self._saved == self.step:
            return
        self._saved = self.step
        began = time.perf_counter()
        self._finish_saving()
        extra: dict[str, Any] = {"step": self.step}
        self._saver.save(self._directory / name, self.runtime.module, self.runtime.optimizers, extra)
        self._unnamed = name
        self._learn(time.perf_counter() - began)

    def _name_what_is_whole(self) -> None:
        """Rank 0's part is done when every rank's is: it writes what all have written."""
        if self._unnamed and self._saver.finished:
            self._name()

    def _finish_saving(self) -> None:
        self._saver.wait()
        if self._unnamed:
            self._name()
        if dist.is_initialized():
            dist.barrier()

    def _name(self) -> None:
        name, self._unnamed = self._unnamed, None
        if name is None or (dist.is_initialized() and dist.get_rank()):
            return
        partial = self._directory / f"{LATEST}.new"
        partial.write_text(name)
        partial.replace(self._directory / LATEST)
        for old in sorted(self._directory.glob("step-*"))[:-KEPT]:
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)

    def _latest(self) -> str | None:
        file = self._directory / LATEST
        return file.read_text() if file.is_file() else None

    def _load(self) -> int:
        """The step to go on from."""
        name = _from_first(self._latest())
        if name is None:
            return 0
        extra = self.runtime.load(self._directory / name, {"step": 0})
        self._saved = int(extra["step"])
        return self._saved


def _share(runtime: Runtime) -> float:
    """Samples that this rank computes a step."""
    return float(runtime.plan.shares[runtime.mesh.dp_rank])


def _from_first(value: T) -> T:
    """Rank 0's value, on every rank."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0)
    return box[0]
