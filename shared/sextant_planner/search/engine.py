"""The search: exhaustive over degrees, cheapest bound first, exact where it matters."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pydantic import Field

from sextant_planner.cluster import Cluster
from sextant_planner.cost.step import Prediction, StepCosts
from sextant_planner.model import ModelProfile
from sextant_planner.plan import ParallelPlan, Schedule
from sextant_planner.record import PlanningError, Record
from sextant_planner.search.completion import complete
from sextant_planner.search.estimate import Estimates
from sextant_planner.search.space import Wishes, plans
from sextant_planner.traits import RuntimeTraits

RESERVE = 0.08
"""Share of a device's memory that plans leave free: the allocator's fragments, and what libraries take."""
SLACK = 1.02
"""A bound may be this much over what it bounds, since it takes stages as even."""


class Candidate(Record):
    """A plan with what it is expected to cost."""

    plan: ParallelPlan
    prediction: Prediction
    measured_s: float | None = Field(None, description="seconds of a step, where the plan was tried")


class Rejection(Record):
    """Why plans of one kind were not taken, with the one that came nearest."""

    reason: str
    count: int = Field(ge=1)
    example: str


class Choice(Record):
    """What the search found, the best first."""

    model: str
    cluster: str
    candidates: tuple[Candidate, ...] = Field(min_length=1)
    rejections: tuple[Rejection, ...] = ()
    searched: int = Field(description="combinations that were looked at")
    priced: int = Field(description="plans that were priced exactly")
    complete: bool = Field(description="no plan that was not priced can be better")
    seconds: float

    @property
    def best(self) -> Candidate:
        """The fastest plan that fits."""
        return self.candidates[0]


@dataclass
class _Found:
    """The best candidates so far, and what was turned down."""

    top: int
    heap: list[tuple[float, int, Candidate]] = field(default_factory=list)
    turned_down: dict[str, tuple[int, str]] = field(default_factory=dict)
    number: int = 0

    def add(self, candidate: Candidate) -> None:
        self.number += 1
        heapq.heappush(self.heap, (-candidate.prediction.step_s, -self.number, candidate))
        if len(self.heap) > self.top:
            heapq.heappop(self.heap)

    def turn_down(self, reason: str, plan: ParallelPlan) -> None:
        count, example = self.turned_down.get(reason, (0, plan.describe()))
        self.turned_down[reason] = (count + 1, example)

    @property
    def worst(self) -> float:
        return -self.heap[0][0] if len(self.heap) == self.top else float("inf")


def search(
    model: ModelProfile,
    cluster: Cluster,
    wishes: Wishes,
    *,
    traits: RuntimeTraits | None = None,
    top: int = 5,
    budget_s: float = 45.0,
    progress: Callable[[int, int], None] | None = None,
) -> Choice:
    """The `top` fastest plans that fit. Raises PlanningError that says what would fit where none does.

    Every combination gets a lower bound; they are priced exactly in the order of their bounds, until no bound is under
    the worst of the best. `budget_s` ends that early; the answer then says that it is not complete.
    """
    began = time.monotonic()
    costs = StepCosts(model, cluster, traits)
    estimates = Estimates(costs, RESERVE)
    found = _Found(top)
    bounded: list[tuple[float, int, ParallelPlan]] = []
    searched = 0
    for plan in plans(model, cluster, wishes):
        searched += 1
        bound = estimates.bound(plan, may_recompute=_may_recompute(plan, wishes))
        if bound is None:
            found.turn_down("does not fit in memory", plan)
        else:
            bounded.append((bound, searched, plan))
    bounded.sort(key=lambda item: item[:2])
    done = _price(bounded, costs, wishes, found, began + budget_s, progress)
    if not found.heap:
        raise _nothing_fits(model, cluster, wishes, searched)
    ranked = sorted((item[2] for item in found.heap), key=lambda candidate: candidate.prediction.step_s)
    if done < len(bounded):
        found.turned_down["slower by its lower bound"] = (len(bounded) - done, bounded[done][2].describe())
    return Choice(
        model=model.name,
        cluster=cluster.name,
        candidates=tuple(ranked),
        rejections=tuple(Rejection(reason=r, count=c, example=e) for r, (c, e) in sorted(found.turned_down.items())),
        searched=searched,
        priced=done,
        complete=done == len(bounded) or bounded[done][0] > found.worst * SLACK,
        seconds=time.monotonic() - began,
    )


def _price(
    bounded: list[tuple[float, int, ParallelPlan]],
    costs: StepCosts,
    wishes: Wishes,
    found: _Found,
    deadline: float,
    progress: Callable[[int, int], None] | None,
) -> int:
    """Price plans in the order of their bounds; the number that was priced."""
    for number, (bound, _, plan) in enumerate(bounded):
        if bound > found.worst * SLACK or (found.heap and time.monotonic() > deadline):
            return number
        if progress and number % 16 == 0:
            progress(number, len(bounded))
        whole = complete(plan, costs, may_recompute=_may_recompute(plan, wishes), reserve=RESERVE)
        if whole is None:
            found.turn_down("does not fit in memory", plan)
        else:
            checked = ParallelPlan.model_validate(whole.model_dump())
            found.add(Candidate(plan=checked, prediction=costs.predict(checked)))
    return len(bounded)


def _may_recompute(plan: ParallelPlan, wishes: Wishes) -> bool:
    """Recomputation cannot be parted into the two backward passes of a zero-bubble schedule."""
    return wishes.recompute and (plan.pp == 1 or plan.schedule is not Schedule.ZERO_BUBBLE)


def _nothing_fits(model: ModelProfile, cluster: Cluster, wishes: Wishes, searched: int) -> PlanningError:
    if not searched:
        return PlanningError(
            f"no way to split {model.name} over {cluster.size} devices with a batch of {wishes.global_batch} has the"
            f" degrees asked for; the product of the degrees must be {cluster.size}, data-parallel ranks at most the"
            " batch, stages at most the blocks, and tensor-parallel ranks must divide the heads or channels",
            field="degrees",
        )
    least = 4 * 4 * model.parameters / cluster.size
    limit = min(device.memory_bytes for device in cluster.devices)
    return PlanningError(
        f"{model.name} does not fit: none of {searched} ways to split it over {cluster.size} devices of"
        f" {limit / 1e9:.3g} GB does; its states alone are {16 * model.parameters / 1e9:.3g} GB,"
        f" {least / 1e9:.3g} GB a device if shared out evenly; take more devices, a smaller batch, or offload the"
        " optimizer",
        field="memory",
    )
