"""When a running job should change its plan, and how: triggers, hysteresis, and the three grades of a switch.

Pure: from what was observed to what to do. A change is worth it where what it is expected to save over the steps that
are left is at least twice what the switch costs, so that a job does not flap between plans of about equal speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from pydantic import Field

from sextant_planner.cluster import Cluster
from sextant_planner.plan import ParallelPlan
from sextant_planner.record import Record


class Trigger(StrEnum):
    """What made a change worth looking at."""

    IMBALANCE = "imbalance"
    """Some ranks are persistently slower than others."""
    MISPREDICTED = "mispredicted"
    """Steps take longer than predicted, evenly."""


class Grade(StrEnum):
    """How a switch is made, the cheapest first."""

    RESHARE = "reshare"
    """Batch shares or micro-batches change; every tensor stays where it is."""
    REMESH = "remesh"
    """Same processes, another mesh: checkpoint, leave, join, load."""
    RESTART = "restart"
    """Another world: checkpoint, and start again over the ranks there are."""


SLOWEST = 0.01
"""No rank is taken to be slower than this share of the fastest: it has measured next to nothing."""


class Policy(Record):
    """Thresholds; the defaults are those of the documentation."""

    imbalance: float = Field(0.10, gt=0, description="share by which the slowest rank is over the median")
    mispredicted: float = Field(0.20, gt=0, description="share by which a step is over its prediction")
    windows: int = Field(3, ge=1, description="windows in a row that must show it")
    margin: float = Field(2.0, ge=1, description="expected saving over the cost of the switch, at the least")


class Window(Record):
    """What was measured over some steps: mean seconds of compute of each rank, and of a whole step."""

    compute_s: tuple[float, ...] = Field(min_length=1, description="by rank; waiting for others is not in it")
    work: tuple[float, ...] = Field((), description="what each rank had to compute, in any unit; empty: even")
    step_s: float = Field(gt=0)

    @property
    def speeds(self) -> tuple[float, ...]:
        """Of each rank, in that of the fastest: seconds for its work, inverted."""
        work = self.work or (1.0,) * len(self.compute_s)
        rates = [max(each, 1e-9) / max(took, 1e-9) for each, took in zip(work, self.compute_s, strict=True)]
        fastest = max(rates)
        return tuple(max(SLOWEST, rate / fastest) for rate in rates)


def trigger(
    windows: Sequence[Window], predicted_s: float, policy: Policy, speeds: Sequence[float] = ()
) -> Trigger | None:
    """What the last windows show, where all of them show it.

    `speeds`: those of the ranks that the plan was made for; empty: even.
    """
    if len(windows) < policy.windows:
        return None
    last = windows[-policy.windows :]
    if all(_imbalance(window, speeds) > policy.imbalance for window in last):
        return Trigger.IMBALANCE
    if all(window.step_s > predicted_s * (1 + policy.mispredicted) for window in last):
        return Trigger.MISPREDICTED
    return None


def observed_cluster(cluster: Cluster, windows: Sequence[Window]) -> Cluster:
    """The cluster with the speeds that ranks have shown: the median over the windows."""
    by_rank = zip(*(window.speeds for window in windows), strict=True)
    speeds = tuple(round(sorted(values)[len(values) // 2], 3) for values in by_rank)
    return cluster.model_copy(update={"speeds": speeds})


def grade(old: ParallelPlan, new: ParallelPlan) -> Grade:
    """The cheapest switch from one plan to the other."""
    if old.world != new.world:
        return Grade.RESTART
    kept = ("dp_replicate", "dp_shard", "tp", "pp", "cp", "sharding", "stages", "schedule", "virtual_stages")
    same = all(getattr(old, name) == getattr(new, name) for name in kept)
    return Grade.RESHARE if same else Grade.REMESH


def worth_it(old_step_s: float, new_step_s: float, steps_left: int, switch_s: float, policy: Policy) -> bool:
    """Whether the expected saving is over the cost of the switch by the policy's margin."""
    return (old_step_s - new_step_s) * steps_left >= policy.margin * switch_s and new_step_s < old_step_s


def checkpoint_every(step_s: float, save_s: float, share: float = 0.05) -> int:
    """Steps between checkpoints, so that saving costs at most `share` of the time."""
    return max(1, -(-int(1e6 * save_s) // max(1, int(1e6 * share * step_s))))


def _imbalance(window: Window, speeds: Sequence[float]) -> float:
    """By how much the slowest rank is slower than the median, or of two than the other, beside what was planned for."""
    planned = speeds or (1.0,) * len(window.compute_s)
    ordered = sorted(wanted / shown for wanted, shown in zip(planned, window.speeds, strict=True))
    return ordered[-1] / (ordered[len(ordered) // 2] if len(ordered) > 2 else ordered[0]) - 1
