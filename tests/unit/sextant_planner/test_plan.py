"""The plan contract refuses what cannot be run, and survives JSON."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sextant_planner.plan import ParallelPlan, Schedule, Sharding
from sextant_planner.record import PlanningError

PLAN = ParallelPlan(
    dp_shard=4, tp=2, pp=2, sharding=Sharding.ZERO2, global_batch=32, microbatches=4, stages=((0, 3), (3, 6))
)


def test_a_plan_survives_json() -> None:
    assert ParallelPlan.from_json(PLAN.to_json()) == PLAN
    assert PLAN.world == 16
    assert PLAN.digest == ParallelPlan.from_json(PLAN.to_json()).digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sharding": Sharding.NONE}, "dp_shard"),
        ({"microbatches": 1}, "2 stages need 2 micro-batches"),
        ({"virtual_stages": 2}, "one chunk a rank"),
        ({"stages": ((0, 6),)}, "stages must be 2 ranges"),
        ({"batch_shares": (8, 8, 8, 9)}, "batch_shares must be 4 numbers whose sum is 32"),
        ({"schedule": Schedule.INTERLEAVED, "virtual_stages": 2, "microbatches": 3, "stages": ()}, "multiple of pp"),
        ({"tp": 0}, "greater than or equal to 1"),
        ({"ranks": 3}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_reason(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ParallelPlan.model_validate({**PLAN.model_dump(), **change})


def test_bad_json_names_the_field() -> None:
    with pytest.raises(PlanningError, match="global_batch") as caught:
        ParallelPlan.from_json('{"global_batch": "many"}')
    assert caught.value.field == "global_batch"


def test_a_plan_for_another_world_is_refused() -> None:
    with pytest.raises(PlanningError, match="for 16 devices, and there are 8"):
        PLAN.require_world(8)


def test_shares_are_as_even_as_can_be() -> None:
    assert ParallelPlan(dp_replicate=3, global_batch=8).shares == (3, 3, 2)
    assert ParallelPlan(dp_replicate=2, global_batch=8, batch_shares=(6, 2)).shares == (6, 2)


def test_one_line_says_what_the_plan_is() -> None:
    assert PLAN.describe() == "pp2 shards4 tp2, zero-2, 1f1b, 4 micro-batches"
    assert ParallelPlan(global_batch=1).describe() == "one device"
