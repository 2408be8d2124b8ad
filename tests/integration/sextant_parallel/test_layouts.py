"""A checkpoint of one plan goes on under any other; norms, clipping and mixed precision are those of one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.bench.parallel_cases import FAMILIES, Family
from tests.bench.parallel_equal import batches, whole
from tests.bench.ranks import run
from torch import nn

from sextant_parallel import checkpoint
from sextant_parallel.runtime import Runtime, apply
from sextant_planner.plan import ParallelPlan, Precision, Schedule, Sharding
from sextant_planner.record import PlanningError

BATCH = 8
ONE = ParallelPlan(global_batch=BATCH)
THREE = Sharding.ZERO3


def plan(**fields: Any) -> ParallelPlan:
    return ParallelPlan(global_batch=BATCH, **fields)


def make(family: Family, how: ParallelPlan, clip: float | None = None) -> Runtime:
    # Over plain Adam's 1e-8: a gradient that is nearly zero would else be scaled up to the size of its rounding errors.
    adam = lambda groups: torch.optim.AdamW(groups, lr=1e-3, eps=1e-4)  # noqa: E731
    return apply(family.model(), how, optimizer=adam, loss=family.loss, clip_norm=clip)


def steps(runtime: Runtime, family: Family, first: int, end: int) -> list[float]:
    mine = runtime.rows
    pairs = batches(family, torch.float32, end)[first:]
    return [float(runtime.train_step(inputs[mine], targets[mine])) for inputs, targets in pairs]


def saves(family: str, how: ParallelPlan, directory: str, background: bool) -> list[float]:
    runtime = make(FAMILIES[family], how)
    losses = steps(runtime, FAMILIES[family], 0, 3)
    extra = {"done": 3, "numbers": torch.arange(4)}
    if background:
        saver = checkpoint.Saver()
        runtime.save(Path(directory), extra, saver)
        steps(runtime, FAMILIES[family], 3, 4)  # goes on while the checkpoint is written
        saver.wait()
    else:
        runtime.save(Path(directory), extra)
    return losses


def goes_on(family: str, how: ParallelPlan, directory: str) -> tuple[list[float], int, list[int]]:
    runtime = make(FAMILIES[family], how)
    extra = runtime.load(Path(directory), {"done": 0, "numbers": torch.zeros(4, dtype=torch.int64)})
    return steps(runtime, FAMILIES[family], 3, 6), int(extra["done"]), extra["numbers"].tolist()


def undisturbed(family: str) -> list[float]:
    runtime = make(FAMILIES[family], ONE)
    return steps(runtime, FAMILIES[family], 0, 6)


FAST = {("resnet", True), ("unet", False)}
PAIRS = [
    ("decoder", plan(pp=2, dp_shard=2, sharding=THREE, microbatches=2), plan(tp=2, dp_replicate=2)),
    ("resnet", plan(tp=2, dp_shard=2, sharding=THREE), plan(dp_replicate=2)),
    ("unet", plan(dp_replicate=2), plan(pp=2, microbatches=4, virtual_stages=2, schedule=Schedule.INTERLEAVED)),
    ("vit", ONE, plan(tp=2, sequence_parallel=True)),
]


@pytest.mark.parametrize(
    ("family", "before", "after", "background"),
    [
        pytest.param(*pair, background, marks=() if (pair[0], background) in FAST else pytest.mark.slow)
        for pair in PAIRS
        for background in (False, True)
    ],
)
def test_a_run_goes_on_under_another_plan(
    family: str, before: ParallelPlan, after: ParallelPlan, background: bool, tmp_path: Path
) -> None:
    wanted = undisturbed(family)
    first = run(before.world, saves, family, before, str(tmp_path), background)
    rest = run(after.world, goes_on, family, after, str(tmp_path))
    for losses in first:
        assert losses == pytest.approx(wanted[:3], abs=1e-5)
    for losses, done, numbers in rest:
        assert losses == pytest.approx(wanted[3:], abs=1e-5)
        assert (done, numbers) == (3, [0, 1, 2, 3])


def norm_and_loss(family: str, how: ParallelPlan, limit: float) -> tuple[float, float, float]:
    """The norm before clipping, the norm of what the optimizer saw, and the loss of the next step."""
    chosen = FAMILIES[family]
    runtime = make(chosen, how, limit)
    mine = runtime.rows
    (inputs, targets), (later, wanted) = batches(chosen, torch.float32, 2)
    runtime.backward(inputs[mine], targets[mine])
    norm = runtime.step()
    assert norm is not None
    kept = runtime.gradient_norm()
    return float(norm), float(kept), float(runtime.train_step(later[mine], wanted[mine]))


@pytest.mark.parametrize(
    "how",
    [
        plan(pp=2, tp=2, microbatches=2),
        plan(dp_shard=2, tp=2, sharding=THREE, sequence_parallel=True),
        plan(cp=2, dp_replicate=2),
    ],
)
def test_clipping_goes_by_the_norm_of_the_whole_model(how: ParallelPlan) -> None:
    norm, kept, loss = norm_and_loss("decoder", ONE, 0.1)
    assert norm > 0.1
    for found in run(how.world, norm_and_loss, "decoder", how, 0.1):
        assert found == pytest.approx((norm, 0.1, loss), rel=1e-4)
    assert kept == pytest.approx(0.1, rel=1e-4)


def evaluated(family: str, how: ParallelPlan) -> list[float]:
    """Loss of the first batch before training, of a step on it, and of it afterwards."""
    chosen = FAMILIES[family]
    runtime = make(chosen, how)
    mine = runtime.rows
    ((inputs, targets),) = batches(chosen, torch.float32, 1)
    before = runtime.evaluate(inputs[mine], targets[mine])
    step = runtime.train_step(inputs[mine], targets[mine])
    return [float(before), float(step), float(runtime.evaluate(inputs[mine], targets[mine]))]


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("unet", plan(pp=2, microbatches=4, virtual_stages=2, schedule=Schedule.INTERLEAVED)),
        ("encoder", plan(cp=2, dp_shard=2, sharding=THREE)),
    ],
)
def test_the_loss_can_be_evaluated_between_steps(family: str, how: ParallelPlan) -> None:
    wanted = evaluated(family, ONE)
    for losses in run(how.world, evaluated, family, how):
        assert losses == pytest.approx(wanted, abs=1e-5)


def gathered(family: str, how: ParallelPlan) -> dict[str, NDArray[np.float32]]:
    runtime = make(FAMILIES[family], how)
    steps(runtime, FAMILIES[family], 0, 1)
    kept = runtime.state()
    steps(runtime, FAMILIES[family], 1, 2)  # what was kept does not follow
    return {name: value.numpy() for name, value in runtime.gather(kept).items()}


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("decoder", plan(pp=2, tp=2, microbatches=2)),
        ("unet", plan(pp=2, dp_shard=2, sharding=THREE, microbatches=2)),
        ("resnet", plan(dp_replicate=2, tp=2)),
    ],
)
def test_what_the_ranks_hold_is_gathered_under_the_names_of_the_whole(family: str, how: ParallelPlan) -> None:
    first, *others = run(how.world, gathered, family, how)
    assert not any(others)
    whole_state = FAMILIES[family].model().state_dict()
    assert {name: value.shape for name, value in first.items()} == {n: v.shape for n, v in whole_state.items()}
    for name, value in gathered(family, ONE).items():
        np.testing.assert_allclose(first[name], value, rtol=1e-3, atol=1e-4, err_msg=name)


def losses_of_views(how: ParallelPlan) -> list[float]:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Identity(), nn.Linear(72, 8), nn.ReLU(), nn.Linear(8, 4)]
    cross_entropy = lambda out, wanted: nn.functional.cross_entropy(out, wanted, reduction="sum")  # noqa: E731
    sgd = lambda groups: torch.optim.SGD(groups, lr=0.1)  # noqa: E731
    runtime = apply(nn.Sequential(*layers), how, optimizer=sgd, loss=cross_entropy)
    inputs, targets = torch.randn(BATCH, 1, 8, 8), torch.arange(BATCH) % 4
    return [float(runtime.train_step(inputs, targets)) for _ in range(3)]


def test_a_stage_may_end_with_a_view_or_with_its_input() -> None:
    stages = ((0, 3), (3, 4), (4, 6), (6, 7))
    how = plan(pp=2, microbatches=2, virtual_stages=2, stages=stages, schedule=Schedule.ZERO_BUBBLE)
    wanted = losses_of_views(ONE)
    for losses in run(2, losses_of_views, how):
        assert losses == pytest.approx(wanted, rel=1e-5)


def counted(family: str, how: ParallelPlan) -> list[float]:
    runtime = make(FAMILIES[family], how)
    mine = runtime.rows_of(2 * BATCH)
    pairs = batches(FAMILIES[family], torch.float32, 2)
    inputs, targets = (torch.cat(parts)[mine] for parts in zip(*pairs, strict=True))
    sums = lambda out, wanted: torch.stack([FAMILIES[family].loss(out, wanted), out.new_tensor(len(out))])  # noqa: E731
    return [float(value) for value in runtime.measure(inputs, targets, sums)]


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("decoder", plan(pp=2, tp=2, microbatches=2)),
        ("resnet", plan(dp_replicate=2, tp=2)),
        ("encoder", plan(cp=2, dp_replicate=2)),
    ],
)
def test_sums_over_a_larger_batch_are_measured_without_training(family: str, how: ParallelPlan) -> None:
    wanted = counted(family, ONE)
    assert wanted[1] == 2 * BATCH
    for found in run(how.world, counted, family, how):
        assert found == pytest.approx(wanted, rel=1e-5)


def bfloat16_losses(family: str, how: ParallelPlan) -> tuple[list[float], list[str]]:
    runtime = make(FAMILIES[family], how)
    kinds = {str(parameter.dtype) for parameter in runtime.parameters}
    return steps(runtime, FAMILIES[family], 0, 6), sorted(kinds)


@pytest.mark.parametrize(
    ("family", "how"),
    [
        ("decoder", plan(dp_shard=2, sharding=THREE)),
        ("unet", plan(pp=2, microbatches=2)),
        pytest.param("vit", plan(tp=2), marks=pytest.mark.slow),
        pytest.param("encoder", plan(pp=2, tp=2, microbatches=2, sequence_parallel=True), marks=pytest.mark.slow),
    ],
)
def test_bfloat16_comes_near_and_keeps_float32_weights(family: str, how: ParallelPlan) -> None:
    mixed = ParallelPlan.model_validate({**how.model_dump(), "precision": Precision.BFLOAT16})
    wanted = undisturbed(family)
    for losses, kinds in run(mixed.world, bfloat16_losses, family, mixed):
        assert kinds == ["torch.float32"]
        # Eight bits of mantissa: a relative error of 0.4 % a number, and a few of them in a row.
        assert losses == pytest.approx(wanted, rel=0.03)
        assert losses != wanted


def parameters_after(family: str, how: ParallelPlan) -> dict[str, Any]:
    runtime = make(FAMILIES[family], how)
    steps(runtime, FAMILIES[family], 0, 3)
    return {name: whole(value).numpy() for name, value in runtime.module.named_parameters()}


def test_offloaded_states_change_nothing() -> None:
    kept = parameters_after("decoder", ONE)
    away = parameters_after("decoder", ONE.model_copy(update={"offload_optimizer": True}))
    assert all((kept[name] == away[name]).all() for name in kept)


def uneven(how: ParallelPlan) -> str:
    family = FAMILIES["decoder"]
    runtime = make(family, how)
    try:
        runtime.train_step(torch.zeros(4, 15, dtype=torch.int64), torch.zeros(4, 15, dtype=torch.int64))
    except PlanningError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("how", [plan(cp=2, dp_replicate=2), plan(tp=2, dp_replicate=2, sequence_parallel=True)])
def test_a_sequence_that_cannot_be_shared_out_evenly_is_refused_on_every_rank(how: ParallelPlan) -> None:
    for message in run(how.world, uneven, how):
        assert "15" in message
        assert "no multiple of 2" in message
