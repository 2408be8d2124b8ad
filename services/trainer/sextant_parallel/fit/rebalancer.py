"""Whether a running job should change its plan: from what its steps take to an offer that pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sextant_parallel.elastic.monitor import Monitor, timing_forward
from sextant_parallel.optimized import OptimizedPlan
from sextant_parallel.runtime.apply import Runtime
from sextant_planner.cluster import Cluster
from sextant_planner.cost.step import StepCosts
from sextant_planner.rebalancing import Grade, Policy, grade, observed_cluster, trigger, worth_it

ALL = frozenset(Grade)
Replan = Callable[[Cluster], OptimizedPlan]
"""The best plan for a cluster as it was observed."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan that is worth the switch."""

    optimized: OptimizedPlan
    grade: Grade
    reason: str


class Rebalancer:
    """Watches the steps of a run. All ranks decide alike, from the same figures."""

    def __init__(
        self,
        optimized: OptimizedPlan,
        cluster: Cluster,
        replan: Replan,
        *,
        policy: Policy | None = None,
        window: int = 10,
        grades: frozenset[Grade] = ALL,
    ) -> None:
        """`cluster` is what `optimized` was planned for. `window`: steps between two looks. `grades`: the switches that
        can be made; another mesh takes a directory that all ranks share.
        """
        self.optimized = optimized
        self._cluster, self._replan, self._policy = cluster, replan, policy or Policy()
        self._grades = grades
        self._planned_for = cluster.speeds
        self._monitor = Monitor(work=0.0, every=window)

    def watch(self, runtime: Runtime) -> None:
        """Time a new runtime's blocks."""
        timing_forward(runtime.module, self._monitor)
        self.restart(runtime)

    def restart(self, runtime: Runtime) -> None:
        """Forget what was measured: the shares are others now."""
        costs = StepCosts(self.optimized.decision.model, self._cluster)
        work = costs.work(runtime.plan, stage=runtime.mesh.rank("pp"), replica=runtime.mesh.dp_rank)
        self._monitor.restart(work)

    def ended_step(self, runtime: Runtime, steps_left: int, save_s: float) -> Offer | None:
        """Call after each step, on every rank. `save_s`: seconds that a checkpoint takes."""
        if self._monitor.ended_step() is None:
            return None
        windows = self._monitor.windows
        quickest = min(window.step_s for window in windows)
        expected = max(self.optimized.prediction.step_s, quickest)
        reason = trigger(windows, expected, self._policy, self._planned_for)
        if reason is None:
            return None
        observed = observed_cluster(self._cluster, windows[-self._policy.windows :])
        offered = self._replan(observed)
        if offered.plan == runtime.plan:
            return None
        how = grade(runtime.plan, offered.plan)
        if how not in self._grades:
            return None
        now = self.optimized.predicted_on(observed, runtime.plan)
        gain = offered.prediction.step_s / now if now else 1.0
        measured = windows[-1].step_s
        cost = 0.0 if how is Grade.RESHARE else 4 * save_s
        if not worth_it(measured, measured * gain, steps_left, cost, self._policy):
            return None
        self.optimized, self._planned_for = offered, observed.speeds
        return Offer(offered, how, str(reason))
