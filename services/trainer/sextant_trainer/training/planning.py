"""How a gang is to train together: data-parallel, or by what the planner finds for the model on these ranks."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sextant_parallel import DynamicParallel, OptimizedPlan, Training
from sextant_parallel.fit import Rebalancer, probe
from sextant_planner.configuration import ParallelConfig
from sextant_planner.plan import ParallelPlan
from sextant_planner.rebalancing import Grade
from sextant_planner.record import PlanningError
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.precision import precision_of
from sextant_trainer.training.recipe import Recipe

ASKED = {
    "tp": "model_parallelism",
    "pp": "pipeline_stages",
    "cp": "context_parallelism",
    "sequence": "context_parallelism",
    "dp_shard": "sharding",
    "schedule": "schedules",
}
"""What a job calls the fields of a plan."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of a run; where it was searched for, with its reasons, and with what may change it."""

    plan: ParallelPlan
    optimized: OptimizedPlan | None = None
    rebalancer: Rebalancer | None = None
    dynamic: DynamicParallel | None = None
    probe: int = 0
    """So many of the best plans are to be tried."""

    @property
    def predicted_s(self) -> float | None:
        """Seconds that a step is expected to take."""
        return self.optimized.prediction.step_s if self.optimized else None

    def probed(self, training: Training) -> Planned:
        """The same, where the config asks for it with the fastest of the plans that were tried; every rank calls it."""
        if self.optimized is None or not self.probe:
            return self
        optimized = probe(self.optimized, training, self.probe)
        if self.rebalancer:
            self.rebalancer.optimized = optimized
        return replace(self, plan=optimized.plan, optimized=optimized)

    def minding_memory(self) -> AbstractContextManager[None]:
        """Around the run. Raises OutOfMemory where the plan did not fit; the next attempt is planned for less."""
        return self.dynamic.minding_memory(self.rebalancer) if self.dynamic and self.rebalancer else nullcontext()

    def report(self, step_s: Sequence[float]) -> dict[str, Any]:
        """What was planned, and how the steps compare with it; the first one warms up and does not count."""
        told: dict[str, Any] = {"describe": self.plan.describe()}
        counted = step_s[1:] or step_s
        if counted:
            told["step_ms"] = 1000 * statistics.median(counted)
        if self.predicted_s and counted:
            told["predicted_step_ms"] = 1000 * self.predicted_s
            told["error_pct"] = 100 * (self.predicted_s / statistics.median(counted) - 1)
        return told


def choose(
    recipe: Recipe, batch: int, model: nn.Module, sample: Tensor, *, profiles: Path, may_remesh: bool
) -> Planned:
    """Every rank calls it, and gets the same. `batch`: samples of a global batch; `sample` (n, ...): inputs.

    `may_remesh`: whether the ranks share a disk, which a change to another mesh goes by. Raises InvalidInput or
    PlanningError where the ranks cannot train together as asked.
    """
    if recipe.ranks > batch and (recipe.parallel is None or recipe.parallel.auto_tune):
        message = f"a batch of {batch} samples cannot be shared out over {recipe.ranks} data-parallel ranks"
        raise InvalidInput(message, field="config.batch_size", accepted=f"{recipe.ranks} or more")
    if recipe.parallel is None:
        precision = precision_of(recipe.config)
        return Planned(ParallelPlan(dp_replicate=recipe.ranks, global_batch=batch, precision=precision))
    if recipe.config.precision != "float32":
        raise InvalidInput(
            "with parallel the planner chooses the precision: parallel.precision names those that it may choose",
            field="config.precision",
            accepted="float32",
        )
    if recipe.parallel.compile and recipe.code:
        message = "a model of your own code cannot be compiled: what it may start ends at threads"
        raise InvalidInput(message, field="parallel.compile", accepted="false")
    config = recipe.parallel.model_copy(update={"global_batch": batch})
    dynamic = DynamicParallel(config, model=model, sample=sample, cache=profiles)
    optimized = dynamic.optimize()
    grades = frozenset(Grade) if may_remesh else frozenset({Grade.RESHARE})
    return Planned(optimized.plan, optimized, dynamic.rebalancer(optimized, grades=grades), dynamic, config.probe)


def refused(error: PlanningError) -> InvalidInput:
    """What a job is told of a plan that cannot be found, or cannot be run with its model."""
    field = ASKED.get(error.field or "", error.field)
    return InvalidInput(str(error), field=f"parallel.{field}" if field in ParallelConfig.model_fields else "parallel")
