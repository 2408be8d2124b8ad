"""A running job changes its plan for a reason that lasts, and only where it pays."""

from __future__ import annotations

import pytest
from tests.unit.sextant_planner.models import cluster

from sextant_planner.plan import ParallelPlan
from sextant_planner.rebalancing import (
    Grade,
    Policy,
    Trigger,
    Window,
    checkpoint_every,
    grade,
    observed_cluster,
    trigger,
    worth_it,
)

EVEN = Window(compute_s=(1.0, 1.0, 1.0, 1.0), step_s=1.1)
SLOW = Window(compute_s=(1.0, 1.0, 2.0, 1.0), step_s=2.1)
LONG = Window(compute_s=(1.0, 1.0, 1.0, 1.0), step_s=1.5)


@pytest.mark.parametrize(
    ("windows", "seen"),
    [
        ([EVEN] * 5, None),
        ([SLOW] * 2, None),
        ([EVEN, SLOW, SLOW, SLOW], Trigger.IMBALANCE),
        ([SLOW, SLOW, EVEN, SLOW], None),
        ([LONG] * 3, Trigger.MISPREDICTED),
    ],
)
def test_only_what_lasts_is_a_trigger(windows: list[Window], seen: Trigger | None) -> None:
    assert trigger(windows, 1.1, Policy()) is seen


def test_speeds_are_what_the_ranks_have_shown_a_sample() -> None:
    unlike = Window(compute_s=(1.0, 1.0), work=(4.0, 2.0), step_s=1.0)
    assert unlike.speeds == (1.0, 0.5)
    assert Window(compute_s=(1.0, 1.0), work=(4.0, 0.0), step_s=1.0).speeds == (1.0, 0.01)
    seen = observed_cluster(cluster(4), [SLOW, SLOW, EVEN])
    assert seen.speeds == (1.0, 1.0, 0.5, 1.0)


def test_what_was_planned_for_is_no_imbalance() -> None:
    uneven = Window(compute_s=(4.0, 1.0, 1.0), work=(8.0, 2.0, 2.0), step_s=4.0)
    assert trigger([uneven] * 3, 4.0, Policy()) is None
    halves = Window(compute_s=(1.0, 1.0), work=(4.0, 2.0), step_s=1.0)
    assert trigger([halves] * 3, 1.0, Policy()) is Trigger.IMBALANCE
    assert trigger([halves] * 3, 1.0, Policy(), (1.0, 0.5)) is None


def test_the_cheapest_switch_that_does() -> None:
    old = ParallelPlan(dp_replicate=4, global_batch=16)
    assert grade(old, old.model_copy(update={"batch_shares": (5, 5, 1, 5)})) is Grade.RESHARE
    assert grade(old, ParallelPlan(dp_replicate=2, tp=2, global_batch=16)) is Grade.REMESH
    assert grade(old, ParallelPlan(dp_replicate=3, global_batch=16)) is Grade.RESTART


def test_a_switch_must_save_twice_what_it_costs() -> None:
    assert worth_it(2.0, 1.0, 100, 50.0, Policy())
    assert not worth_it(2.0, 1.0, 100, 51.0, Policy())
    assert not worth_it(1.0, 1.0, 10**9, 0.0, Policy())


def test_saving_costs_no_more_than_its_share() -> None:
    every = checkpoint_every(step_s=0.1, save_s=0.2, share=0.05)
    assert 0.2 / (every * 0.1) <= 0.05
    assert checkpoint_every(step_s=10.0, save_s=0.1) == 1
