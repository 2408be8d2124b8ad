"""The planner's answer, in the hands of someone with a model: the plan, the reasons, and how to apply it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from sextant_planner.cluster import Cluster
from sextant_planner.cost.step import Prediction, StepCosts
from sextant_planner.explain import explain
from sextant_planner.model import ModelProfile
from sextant_planner.picture import draw
from sextant_planner.plan import ParallelPlan
from sextant_planner.record import Record
from sextant_planner.search.engine import Candidate, Choice

if TYPE_CHECKING:
    from torch import nn

    from sextant_parallel.runtime import Runtime


class Decision(Record):
    """A choice, with what was asked for and what had to be assumed."""

    choice: Choice
    model: ModelProfile
    asked: Candidate | None = Field(None, description="the best plan with the degrees that were asked for")
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OptimizedPlan:
    """What `DynamicParallel.optimize` gives."""

    decision: Decision

    @property
    def plan(self) -> ParallelPlan:
        """The plan itself."""
        return self.decision.choice.best.plan

    @property
    def prediction(self) -> Prediction:
        """What a step is expected to take."""
        return self.decision.choice.best.prediction

    def predicted_on(self, cluster: Cluster, plan: ParallelPlan | None = None) -> float:
        """Seconds of a step on another cluster, for the same model; of this plan, or of another."""
        return StepCosts(self.decision.model, cluster).predict(plan or self.plan).step_s

    def explain(self) -> str:
        """Why this plan, why not the others, time and memory broken down, as text."""
        parts = [explain(self.decision.choice)]
        asked = self.decision.asked
        if asked is not None:
            more = asked.prediction.step_s / self.prediction.step_s - 1
            what = "is this one" if asked.plan == self.plan else f"would take {more:+.1%}: {asked.plan.describe()}"
            parts.append(f"What was asked for {what}\n")
        parts += [f"Note: {note}\n" for note in self.decision.notes]
        return "".join(parts)

    def picture(self) -> str:
        """The same as a drawing: an SVG document."""
        return draw(self.decision.choice)

    def to_json(self) -> str:
        """All of it; `from_json` gives an equal one."""
        return self.decision.to_json(indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> OptimizedPlan:
        """Raises PlanningError that names the field where the text is no decision."""
        return cls(Decision.from_json(text))

    def apply(self, module: nn.Module, **options: Any) -> Runtime:
        """Run `module` by this plan: see `sextant_parallel.runtime.apply` for the options. Every rank calls it."""
        from sextant_parallel.runtime import apply

        return apply(module, self.plan, **options)
