"""What the runtime refuses, and the techniques that can be seen on one rank."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_parallel.runtime import apply
from sextant_parallel.runtime.chain import Rule, boundaries, chain_of, stage_ranges
from sextant_parallel.runtime.checks import require_runnable, shares_of
from sextant_parallel.runtime.clip import gradient_norm
from sextant_parallel.runtime.mesh import build_mesh
from sextant_parallel.runtime.normalisation import PlannedBatchNorm, synchronise
from sextant_parallel.runtime.offload import HostStates
from sextant_parallel.runtime.pipeline import passing
from sextant_parallel.runtime.recompute import recompute
from sextant_planner.plan import ParallelPlan, Schedule, Sharding
from sextant_planner.record import PlanningError
from sextant_zoo import build


def plan(**fields: Any) -> ParallelPlan:
    return ParallelPlan(**{"global_batch": 16, **fields})


def decoder() -> nn.Module:
    config = {"hidden": 24, "layers": 3, "heads": 3, "vocabulary": 30, "sequence": 12}
    return build("decoder", config, (12,), 30)


def resnet() -> nn.Module:
    return build("resnet50", {"width": 4, "depths": [1, 1]}, (3, 8, 8), 5)


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum")


@pytest.mark.parametrize(
    ("model", "how", "says"),
    [
        (decoder, plan(tp=2), r"'layer_0' has 1 parts .* which 2 ranks do not divide; .*: dp2"),
        (decoder, plan(tp=6), r"'embed'|'layer_0'"),
        (resnet, plan(cp=2), r"block 'stem' says nothing of a sequence.*: dp2"),
        (resnet, plan(tp=2, sequence_parallel=True), r"no block .* has a sequence; .*: tp2"),
        (resnet, plan(tp=3), r"block 'group_0_0' has 4 parts"),
        (lambda: nn.Linear(3, 3), plan(pp=2, microbatches=2), r"Linear is no chain of blocks.*: dp2"),
        (lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU()), plan(tp=2), r"no block of Sequential has a rule"),
        (resnet, plan(pp=8, microbatches=8), r"4 blocks are too few for 8 stages"),
        (resnet, plan(pp=2, microbatches=2, stages=((0, 2), (3, 4))), r"no cut of 4 blocks"),
        (resnet, plan(recompute=(True,)), r"recompute has 1 entries for 4 blocks"),
        (resnet, plan(pp=2, microbatches=3), r"a share of 16 .* no multiple of 3"),
        (resnet, plan(pp=2, microbatches=2, schedule=Schedule.ZERO_BUBBLE, recompute=(True,) * 4), r"zero-bubble"),
        (resnet, plan(dp_replicate=4, batch_shares=(9, 5, 1, 1), microbatches=2), r"a share of 1 .* fewer than 2"),
    ],
)
def test_what_cannot_be_split_is_refused_by_name(model: Any, how: ParallelPlan, says: str) -> None:
    with pytest.raises(PlanningError, match=says):
        require_runnable(chain_of(model()), how)


class Scaled(nn.Embedding):
    """Not what the class it comes from computes."""

    def forward(self, tokens: Tensor) -> Tensor:
        return super().forward(tokens) * 2


class Doubled(nn.Conv2d):
    """Not what the class it comes from computes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


def test_a_convolution_that_computes_something_else_is_not_split() -> None:
    class Pair(nn.Module):
        tensor_rules = {"first": Rule.CONV_COLUMN.value}
        tensor_limit = 4

        def __init__(self, first: nn.Module) -> None:
            super().__init__()
            self.first = first

    # It is in the last stage, and yet refused on the ranks of the first too.
    chain = chain_of(nn.Sequential(Pair(nn.Conv2d(4, 4, 3)), Pair(Doubled(4, 4, 3))))
    with pytest.raises(PlanningError, match=r"1\.first: only torch's own convolutions"):
        require_runnable(chain, plan(pp=2, tp=2, microbatches=2))


class Odd(nn.Module):
    """Parts that cannot be split as the rules of a test say."""

    tensor_limit = 4

    def __init__(self, **rules: str) -> None:
        super().__init__()
        self.tensor_rules = {name.replace("_", "."): rule for name, rule in rules.items()}
        self.layer, self.table, self.padded = nn.Bilinear(4, 4, 4), Scaled(8, 4), nn.Embedding(8, 4, padding_idx=0)
        self.odd, self.logits = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.pairs = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"layer": "column"}, "layer: Bilinear cannot be split as column"),
        ({"layer": "row"}, "layer: Bilinear cannot be split as row"),
        ({"table": "embedding"}, "table: Scaled cannot be split as embedding"),
        ({"padded": "embedding"}, "padded: Embedding cannot be split as embedding"),
        ({"odd": "embedding"}, "odd: 7 rows are no multiple of 2 ranks"),
        ({"logits": "column-gathered"}, "logits: 7 rows are no multiple of 2 ranks"),
        ({"pairs": "shared-input", "pairs_1": "row", "pairs_3": "row"}, "pairs: the input of the second pair"),
    ],
)
def test_rules_that_do_not_fit_are_refused_by_name(rules: dict[str, str], says: str) -> None:
    with pytest.raises(PlanningError, match=rf"0\.{says}") as caught:
        require_runnable(chain_of(nn.Sequential(Odd(**rules))), plan(tp=2))
    assert caught.value.field == "tp"
    assert cast("ParallelPlan", caught.value.nearest).tp == 1


def test_what_no_rule_is_about_is_refused_on_parts_of_a_sequence() -> None:
    config = {"hidden": 32, "layers": 1, "heads": 4, "vocabulary": 30, "sequence": 12}
    chain = chain_of(build("decoder", config, (12,), 30))
    require_runnable(chain, plan(tp=2, sequence_parallel=True))
    chain.blocks["layer_0"].gain = nn.Parameter(torch.ones(32))
    require_runnable(chain, plan(tp=2))
    with pytest.raises(PlanningError, match=r"layer_0\.gain works on the sequence"):
        require_runnable(chain, plan(tp=2, sequence_parallel=True))


def test_the_nearest_plan_that_is_named_works() -> None:
    with pytest.raises(PlanningError) as caught:
        require_runnable(chain_of(resnet()), plan(tp=8))
    assert isinstance(caught.value.nearest, ParallelPlan)
    assert caught.value.nearest.world == 8
    require_runnable(chain_of(resnet()), caught.value.nearest)


def test_a_world_of_another_size_is_refused() -> None:
    with pytest.raises(PlanningError, match="2 devices, and there are 1"):
        apply(resnet(), plan(dp_replicate=2), optimizer=torch.optim.SGD, loss=loss)


def test_shares_keep_their_proportions_in_a_smaller_batch() -> None:
    assert shares_of(plan(dp_replicate=2, batch_shares=(12, 4)), 8) == (6, 2)
    assert shares_of(plan(dp_shard=4, sharding=Sharding.ZERO3), 6) == (2, 1, 1, 2)


def test_stages_are_as_even_as_can_be() -> None:
    assert stage_ranges(plan(pp=3, microbatches=4), 8) == ((0, 3), (3, 5), (5, 8))


def test_a_batch_of_another_size_than_the_share_is_refused() -> None:
    runtime = apply(resnet(), plan(), optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1), loss=loss)
    with pytest.raises(PlanningError, match="share is 16 samples, not 8"):
        runtime.train_step(torch.randn(8, 3, 8, 8), torch.zeros(8, dtype=torch.int64))
    assert runtime.rows_of(8) == slice(0, 8)
    assert runtime.train_step(torch.randn(8, 3, 8, 8), torch.zeros(8, dtype=torch.int64), 8) > 0


def test_shapes_between_blocks_are_those_of_one_rank() -> None:
    chain = chain_of(build("decoder", {"hidden": 32, "layers": 2, "heads": 4}, (16,), 256))
    how = plan(cp=2, tp=2, pp=2, microbatches=2, sequence_parallel=True)
    found = passing(chain.skeleton(), torch.zeros(4, 8, dtype=torch.int64), how)
    assert [tuple(carry[0].shape) for carry in found] == [(4, 8), (4, 4, 32), (4, 4, 32), (4, 4, 32), (4, 8, 256)]


def test_shapes_are_tried_without_memory_and_without_touching_the_model() -> None:
    model = resnet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    skeleton = chain_of(model).skeleton()
    assert boundaries(skeleton, torch.zeros(2, 3, 8, 8))[-1][0].shape == (2, 5)
    assert all(parameter.is_meta for block in skeleton for parameter in block.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("last", [False, True], ids=["channels-first", "channels-last"])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("affine", ["both", "weight", "none"])
def test_planned_batch_normalisation_is_torchs(affine: str, kind: torch.dtype, last: bool) -> None:
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(6, affine=affine != "none", dtype=torch.float64 if kind is torch.float64 else None)
    if affine != "none":
        nn.init.normal_(plain.weight)
        nn.init.normal_(plain.bias)
    if affine == "weight":
        plain.register_parameter("bias", None)
    planned = nn.Sequential(copy.deepcopy(plain))
    synchronise(planned, ())
    assert isinstance(planned[0], PlannedBatchNorm)
    layout = torch.channels_last if last else torch.contiguous_format
    rtol, atol = (0.02, 0.02) if kind is torch.bfloat16 else (1e-4, 1e-5)
    for training in (True, True, False):
        plain.train(training)
        planned.train(training)
        x = (2 * torch.randn(4, 6, 5, 5) + 1).to(kind).contiguous(memory_format=layout)
        one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
        weights = torch.randn(4, 6, 5, 5).to(kind)
        torch.autograd.backward((plain(one) * weights).sum())
        torch.autograd.backward((planned(other) * weights).sum())
        torch.testing.assert_close(one.grad, other.grad, rtol=rtol, atol=atol)
    torch.testing.assert_close(plain.running_var, planned[0].running_var, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain.running_mean, planned[0].running_mean, rtol=1e-4, atol=1e-5)
    for parameter, same in zip(plain.parameters(), planned.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, same.grad, rtol=rtol, atol=atol)


def test_recomputing_updates_running_statistics_once() -> None:
    torch.manual_seed(0)
    kept, again = resnet(), resnet()
    again.load_state_dict(kept.state_dict())
    for block in again.get_submodule("blocks").children():
        recompute(block)
    x = torch.randn(4, 3, 8, 8)
    for model in (kept, again):
        torch.autograd.backward(model(x).square().sum())
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0)
    for one, other in zip(kept.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


def test_states_that_are_moved_to_the_host_give_up_their_memory_and_come_back() -> None:
    torch.manual_seed(0)
    plain, moved = nn.Linear(5, 5), nn.Linear(5, 5)
    moved.load_state_dict(plain.state_dict())
    first, second = torch.optim.AdamW(plain.parameters()), torch.optim.AdamW(moved.parameters())
    host = HostStates([second], move=True)
    for _ in range(3):
        x = torch.randn(4, 5)
        for model, optimizer in ((plain, first), (moved, second)):
            optimizer.zero_grad()
            torch.autograd.backward(model(x).square().sum())
        first.step()
        host.step()
        average = second.state[moved.weight]["exp_avg"]
        assert average.untyped_storage().nbytes() == 0
    with host.on_device():
        torch.testing.assert_close(second.state[moved.weight]["exp_avg"], first.state[plain.weight]["exp_avg"])
    torch.testing.assert_close(plain.weight, moved.weight, rtol=0, atol=0)


def test_the_norm_on_one_rank_is_torchs() -> None:
    model = decoder()
    torch.autograd.backward(model(torch.zeros(1, 12, dtype=torch.int64)).square().sum())
    wanted = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    torch.testing.assert_close(gradient_norm(model.parameters(), build_mesh(plan())), wanted)
