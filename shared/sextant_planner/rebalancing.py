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


class Policy(Record):
    """Thresholds; the defaults are those of the documentation."""

    imbalance: float = Field(0.10, gt=0, description="share by which the slowest rank is over the median")
    mispredicted: float = Field(0.20, gt=0, description="share by which a step is over its prediction")
    windows: int = Field(3, ge=1, description="windows in a row that must show it")
    margin: float = Field(2.0, ge=1, description="expected saving over the cost of the switch, at the least")


class Window(Record):
    """What was measured over some steps: mean seconds of compute of each rank, and of a whole step."""

    compute_s: tuple[float, ...] = Field(min_length=1, description="by rank; waiting for others is not in it")
    samples: tuple[float, ...] = Field((), description="samples that each rank computed a step; empty: even")
    step_s: float = Field(gt=0)

    @property
    def speeds(self) -> tuple[float, ...]:
        """Of each rank, in that of the fastest: seconds a sample, inverted."""
        loads = self.samples or (1.0,) * len(self.compute_s)
        rates = [load / max(seconds, 1e-9) for load, seconds in zip(loads, self.compute_s, strict=True)]
        fastest = max(rates)
        return tuple(rate / fastest for rate in rates)


def trigger(windows: Sequence[Window], predicted_s: float, policy: Policy) -> Trigger | None:
    """What the last windows show, where all of them show it."""
    if len(windows) < policy.windows:
        return None
    last = windows[-policy.windows :]
    if all(_imbalance(window) > policy.imbalance for window in last):
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


def _imbalance(window: Window) -> float:
    ordered = sorted(window.compute_s)
    return ordered[-1] / max(ordered[len(ordered) // 2], 1e-9) - 1 if len(ordered) > 2 else ordered[-1] / ordered[0] - 1
