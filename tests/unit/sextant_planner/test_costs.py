"""Times and memory follow from the profiles by rules that can be checked by hand."""

from __future__ import annotations

import pytest
from tests.unit.sextant_planner.models import chain, cluster, device

from sextant_planner import catalogue
from sextant_planner.cluster import Collective, Link
from sextant_planner.cost.collectives import collective_s, send_s
from sextant_planner.cost.products import Arithmetic
from sextant_planner.cost.step import StepCosts
from sextant_planner.plan import ParallelPlan, Precision, Schedule, Sharding
from sextant_planner.record import PlanningError
from sextant_planner.transformer import transformer


def test_a_product_is_bound_by_arithmetic_or_by_memory() -> None:
    time = Arithmetic(device(), Precision.FLOAT32)
    assert time.product_s(1000, 1000, 1000) == pytest.approx(2e9 / 1e12)
    assert time.product_s(1, 1000, 1000) == pytest.approx(4 * (1000 + 1e6 + 1000) / 1e12)


def test_a_part_filled_wave_of_tiles_costs_a_whole_one() -> None:
    whole = device().model_copy(update={"multiprocessors": 4, "tile": (100, 100)})
    time = Arithmetic(whole, Precision.FLOAT32)
    assert time.product_s(500, 100, 9000) == pytest.approx(time.product_s(800, 100, 9000))


def test_a_ring_moves_each_byte_twice_less_a_share() -> None:
    assert collective_s(cluster(4), Collective.ALL_REDUCE, 1e9, 4, 1) == pytest.approx(1.5)
    assert collective_s(cluster(4), Collective.ALL_GATHER, 1e9, 4, 1) == pytest.approx(0.75)
    assert collective_s(cluster(4), Collective.ALL_REDUCE, 1e9, 1, 1) == 0
    assert send_s(cluster(4), 1e9, 1) == pytest.approx(1.0)


def test_measured_tables_go_before_formulas() -> None:
    measured = Link(
        name="wire", size=4, bandwidth=1.0, tables={"all_reduce/4": ((0.0, 0.5), (100.0, 1.5), (200.0, 5.5))}
    )
    known = cluster(4).model_copy(update={"links": (measured,)})
    assert collective_s(known, Collective.ALL_REDUCE, 50.0, 4, 1) == pytest.approx(1.0)
    assert collective_s(known, Collective.ALL_REDUCE, 300.0, 4, 1) == pytest.approx(9.5)


def test_a_group_over_nodes_works_inside_them_first() -> None:
    """Eight members a node leave an eighth of the bytes to each adapter."""
    a100 = catalogue.cluster("a100-80gb", 16)
    across = collective_s(a100, Collective.ALL_REDUCE, 1e9, 2, 8)
    whole = collective_s(a100, Collective.ALL_REDUCE, 1e9, 16, 1)
    inside = collective_s(a100, Collective.ALL_REDUCE, 1e9, 8, 1)
    assert whole == pytest.approx(inside + (across - 2e-5) / 8 + 2e-5)


def test_batch_normalisation_over_replicas_gathers_and_reduces_for_each_of_them() -> None:
    model = chain([0.1, 0.2])
    normed = model.blocks[1].model_copy(update={"batch_norms": 3, "normalised": 3 * 250_000_000})
    whole = model.model_copy(update={"blocks": (model.blocks[0], normed)})
    plan = ParallelPlan(global_batch=8, dp_replicate=4, microbatches=2)
    costs, without = (StepCosts(one, cluster(4)).predict(plan).breakdown for one in (whole, model))
    # Of each, 1 GB of means and 1 GB of variances of four ranks are gathered, and 2 GB reduced: see the ring above.
    assert costs.tensor - without.tensor == pytest.approx(2 * 3 * (0.75 * 8 + 1.5 * 2), rel=1e-6)
    again = plan.model_copy(update={"recompute": (False, True)})
    assert StepCosts(whole, cluster(4)).predict(again).breakdown.tensor - costs.tensor == pytest.approx(36, rel=1e-6)
    alone = ParallelPlan(global_batch=8)
    assert StepCosts(whole, cluster(1)).predict(alone).step_s == StepCosts(model, cluster(1)).predict(alone).step_s


def test_one_device_takes_the_sum_of_its_blocks() -> None:
    prediction = StepCosts(chain([0.1, 0.2]), cluster(1)).predict(ParallelPlan(global_batch=4))
    assert prediction.breakdown.compute == pytest.approx(3 * 0.3 * 4)
    assert prediction.step_s == pytest.approx(prediction.breakdown.total)


def test_the_slowest_rank_sets_the_pace_of_data_parallelism() -> None:
    costs = StepCosts(chain([0.1]), cluster(2, speeds=(1.0, 0.5)))
    even = costs.predict(ParallelPlan(dp_replicate=2, global_batch=6))
    fair = costs.predict(ParallelPlan(dp_replicate=2, global_batch=6, batch_shares=(4, 2)))
    assert even.breakdown.compute == pytest.approx(0.3 * 3 / 0.5)
    assert fair.breakdown.compute == pytest.approx(0.3 * 4)


def test_a_block_is_computed_again_when_those_behind_it_are_done() -> None:
    """The large one is first: while it is computed again nothing else is kept; at the end of the chain it would be."""
    model = chain([0.1] * 3)
    sizes = (9e6, 2e6, 2e6)
    blocks = [b.model_copy(update={"activation_bytes": s}) for b, s in zip(model.blocks, sizes, strict=True)]
    plan = ParallelPlan(global_batch=1, recompute=(True,) * 3)
    kept = model.blocks[0].output_bytes
    for order, fullest in ((blocks, kept + 9e6), (blocks[::-1], 3 * kept + 9e6)):
        memory = StepCosts(model.model_copy(update={"blocks": tuple(order)}), cluster(1)).memory(plan)
        assert memory.activations == pytest.approx(3 * kept)
        assert memory.activations + memory.recomputation == pytest.approx(fullest)


def test_recomputing_costs_a_forward_pass_and_saves_activations() -> None:
    costs = StepCosts(chain([0.1] * 4), cluster(1))
    plain = costs.predict(ParallelPlan(global_batch=1))
    again = costs.predict(ParallelPlan(global_batch=1, recompute=(True,) * 4))
    assert again.breakdown.recompute == pytest.approx(0.4)
    assert again.memory.activations + again.memory.recomputation < plain.memory.activations
    assert plain.memory.activations == pytest.approx(4e6)


@pytest.mark.parametrize(
    ("sharding", "parameters", "gradients", "optimizer"),
    [(Sharding.ZERO1, 1, 4, 1), (Sharding.ZERO2, 1, 2, 1), (Sharding.ZERO3, 1, 2, 1)],
)
def test_states_are_shared_out_as_zero_says(
    sharding: Sharding, parameters: int, gradients: int, optimizer: int
) -> None:
    """Four ranks, four blocks: a quarter each; sharded gradients hold one whole block while it is reduced."""
    plan = ParallelPlan(dp_shard=4, sharding=sharding, global_batch=4)
    memory = StepCosts(chain([0.1] * 4, parameters=1000), cluster(4)).memory(plan)
    assert memory.parameters == 4 * 1000 * parameters
    assert memory.gradients == 4 * 1000 * gradients
    assert memory.optimizer == 8 * 1000 * optimizer


def test_activations_of_a_transformer_layer_follow_korthikanti() -> None:
    """Equation 1: sbh(34 + 5as/h); equation 4 with sequence parallelism: all of it divided by t."""
    model = transformer("t", hidden=1024, layers=2, heads=16, sequence=512, vocabulary=1000)
    layer = model.blocks[1]
    assert layer.activation_bytes == 512 * 1024 * (34 + 5 * 16 * 512 / 1024)
    bare = ParallelPlan(global_batch=1, precision=Precision.BFLOAT16)
    one = StepCosts(model, catalogue.cluster("a100-80gb", 1)).memory(bare)
    shared = ParallelPlan(global_batch=1, tp=4, sequence_parallel=True, precision=Precision.BFLOAT16)
    four = StepCosts(model, catalogue.cluster("a100-80gb", 4)).memory(shared)
    assert four.activations == pytest.approx(one.activations / 4, rel=0.02)


def test_an_unknown_device_is_answered_with_those_there_are() -> None:
    with pytest.raises(PlanningError, match="a100-80gb"):
        catalogue.cluster("abacus", 8)


@pytest.mark.parametrize("name", catalogue.names("devices"))
def test_the_catalogue_names_its_sources(name: str) -> None:
    entry = catalogue.node(name)
    assert entry.device.name == name
    assert all((entry.device.source, entry.inside.source, entry.between.source))


def test_zero_bubbles_fill_what_gradients_of_weights_take() -> None:
    plan = ParallelPlan(
        pp=4,
        microbatches=4,
        virtual_stages=2,
        schedule=Schedule.ZERO_BUBBLE,
        global_batch=4,
        stages=tuple((n, n + 1) for n in range(8)),
    )
    plain = chain([1.0] * 8)

    def step(share: float, parting: float = 0.0) -> float:
        measured = {"weight_share": {"unit": share}, "parting_s": {"unit": parting}}
        blocks = tuple(block.model_copy(update=measured) for block in plain.blocks)
        return StepCosts(plain.model_copy(update={"blocks": blocks}), cluster(4)).predict(plan).step_s

    # Half of the backward pass is taken for it where it was not measured.
    assert StepCosts(plain, cluster(4)).predict(plan).step_s == step(0.5)
    assert step(0.0) > step(0.25) > step(0.5)
    # Four micro-batches through two stages a rank, parted even where nothing is left to be put off.
    for share in (0.0, 0.5):
        assert step(share) < step(share, 0.25) <= step(share) + 4 * 2 * 0.25
