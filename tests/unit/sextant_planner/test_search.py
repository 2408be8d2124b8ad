"""The search finds the best plan there is, says why, and says what would fit where nothing does."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from tests.unit.sextant_planner.models import chain, cluster

from sextant_planner.cost.step import StepCosts
from sextant_planner.explain import explain
from sextant_planner.model import ModelProfile
from sextant_planner.picture import draw
from sextant_planner.plan import Schedule
from sextant_planner.record import PlanningError
from sextant_planner.search.completion import complete
from sextant_planner.search.engine import RESERVE, Choice, search
from sextant_planner.search.estimate import Estimates
from sextant_planner.search.space import Wishes, plans

UNEVEN = [0.010, 0.030, 0.020, 0.005, 0.040, 0.015]


@pytest.mark.parametrize("bandwidth", [1e9, 1e6, 2e4])
@pytest.mark.parametrize("parameters", [10, 100_000])
def test_the_chosen_plan_is_the_best_of_all_priced_one_by_one(bandwidth: float, parameters: int) -> None:
    model = chain(UNEVEN, parameters=parameters, tp_limit=4)
    devices = cluster(4, bandwidth=bandwidth)
    costs = StepCosts(model, devices)
    wishes = Wishes(global_batch=16)
    whole = [complete(plan, costs, may_recompute=True, reserve=RESERVE) for plan in plans(model, devices, wishes)]
    best = min(costs.predict(plan).step_s for plan in whole if plan is not None)
    choice = search(model, devices, wishes)
    assert choice.complete
    # The bounds take stages as even, and may be off by the slack of the search.
    assert choice.best.prediction.step_s <= best * 1.02


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_no_even_pipeline_is_faster_than_its_bound(share: float) -> None:
    model = chain([0.01] * 24)
    parted = [block.model_copy(update={"weight_share": {"unit": share}}) for block in model.blocks]
    model, devices = model.model_copy(update={"blocks": tuple(parted)}), cluster(4)
    costs = StepCosts(model, devices)
    estimates = Estimates(costs, RESERVE)
    wishes = Wishes(global_batch=32, pp=4)
    found = list(plans(model, devices, wishes))
    assert {plan.schedule for plan in found} == set(Schedule)
    for plan in found:
        whole = complete(plan, costs, may_recompute=False, reserve=RESERVE)
        bound = estimates.bound(plan, may_recompute=False)
        assert whole is not None
        assert bound is not None
        assert bound <= costs.predict(whole).step_s * (1 + 1e-9), plan.describe()


def test_a_small_model_on_a_fast_link_is_trained_data_parallel() -> None:
    choice = search(chain(UNEVEN), cluster(8), Wishes(global_batch=64))
    assert choice.best.plan.dp == 8
    assert "data parallelism: what it moves is little" in explain(choice)


def test_a_model_that_fits_no_device_is_split() -> None:
    """16 bytes a parameter: 8 GB of states on devices of 3 GB."""
    model = chain([0.01] * 8, parameters=62_500_000)
    choice = search(model, cluster(4, memory_bytes=3e9), Wishes(global_batch=8))
    assert choice.best.prediction.fits
    assert choice.best.plan.pp > 1 or choice.best.plan.dp_shard > 1
    assert any("memory" in rejection.reason for rejection in choice.rejections)


def test_activations_are_computed_again_in_as_few_blocks_as_it_takes() -> None:
    model = chain([0.01] * 8, activation_bytes=0.5e9)
    choice = search(model, cluster(1, memory_bytes=3e9), Wishes(global_batch=1))
    again = sum(choice.best.plan.recompute)
    assert 0 < again < 8
    assert choice.best.prediction.fits


def test_slower_ranks_get_smaller_shares() -> None:
    choice = search(chain(UNEVEN), cluster(2, speeds=(1.0, 0.5)), Wishes(global_batch=12, pp=1))
    assert choice.best.plan.shares == (8, 4)


def test_slower_stages_get_fewer_blocks() -> None:
    wishes = Wishes(global_batch=8, pp=2, schedules=(Schedule.ONE_F_ONE_B,))
    choice = search(chain([0.01] * 6), cluster(2, speeds=(1.0, 0.5)), wishes)
    assert choice.best.plan.stages == ((0, 4), (4, 6))


def test_degrees_that_were_asked_for_are_kept() -> None:
    choice = search(chain([0.01] * 8, tp_limit=8), cluster(8), Wishes(global_batch=32, tp=2, pp=2, dp=2))
    assert all((c.plan.tp, c.plan.pp, c.plan.dp) == (2, 2, 2) for c in choice.candidates)


@pytest.mark.parametrize(
    ("model", "wishes", "said"),
    [
        (chain([0.01], parameters=10**10), Wishes(global_batch=4), "does not fit"),
        (chain([0.01]), Wishes(global_batch=4, dp=3), "the product of the degrees must be 4"),
        (chain([0.01]), Wishes(global_batch=2, pp=1, tp=1), "data-parallel ranks at most the batch"),
    ],
)
def test_what_cannot_be_planned_says_why(model: ModelProfile, wishes: Wishes, said: str) -> None:
    with pytest.raises(PlanningError, match=said):
        search(model, cluster(4), wishes)


def test_a_choice_survives_json_and_can_be_looked_at() -> None:
    choice = search(chain(UNEVEN, tp_limit=4), cluster(4), Wishes(global_batch=16))
    assert Choice.from_json(choice.to_json()) == choice
    text = explain(choice)
    for part in ("Time of a step", "Memory of the fullest device", "Why this one", "Next best", "Not taken"):
        assert part in text
    picture = ET.fromstring(draw(choice))
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}rect")) > len(choice.candidates)


def test_a_plan_that_was_tried_is_told_with_what_it_took() -> None:
    choice = search(chain(UNEVEN, tp_limit=4), cluster(4), Wishes(global_batch=16))
    first, second, *rest = choice.candidates
    tried = (
        second.model_copy(update={"measured_s": 2 * second.prediction.step_s}),
        first.model_copy(update={"measured_s": 1.5}),
        *rest,
    )
    text = explain(choice.model_copy(update={"candidates": tried}))
    assert "The fastest of 2 that were tried" in text
    assert "predicted -50.0% off" in text
    assert text.count("tried: 1.500 s") == 1


def test_two_searches_choose_alike() -> None:
    first, second = (search(chain(UNEVEN, tp_limit=2), cluster(8), Wishes(global_batch=32)) for _ in range(2))
    assert first.candidates == second.candidates
