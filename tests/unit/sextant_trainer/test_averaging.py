"""The moving average of weights, and mixed precision."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from sextant_parallel.runtime import apply
from sextant_planner.plan import ParallelPlan
from sextant_shared.contracts.specs import TrainConfig
from sextant_trainer.training.averaging import Average
from sextant_trainer.training.precision import full, has_bfloat16
from sextant_trainer.training.recipe import build_optimizer


def test_the_average_follows_the_weights_and_stands_in_for_them() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    runtime = apply(
        model,
        ParallelPlan(global_batch=8),
        optimizer=lambda groups: torch.optim.SGD(groups, lr=0.1),
        loss=lambda out, wanted: nn.functional.cross_entropy(out, wanted, reduction="sum"),
    )
    average = Average(0.9)
    average.begin(runtime)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(1, 31):
        runtime.train_step(torch.randn(8, 3), torch.randint(0, 2, (8,)))
        average.add(step)
        share = 1 - min(0.9, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            still = not value.is_floating_point()
            expected[name] = value.clone() if still else expected[name] + share * (value - expected[name])
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with average.in_place():
        for name, value in model.state_dict().items():
            assert torch.allclose(value, expected[name], atol=1e-6), name
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())
    assert not torch.allclose(own["0.weight"], expected["0.weight"])


@pytest.mark.parametrize(
    ("flags", "found"),
    [("flags\t: avx2 avx512_bf16 fma", True), ("Features : fp asimd bf16", True), ("flags : avx2", False)],
)
def test_a_processor_says_whether_it_has_bfloat16(tmp_path: Path, flags: str, found: bool) -> None:
    if torch.cuda.is_available():
        pytest.skip("the device is a GPU")
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nmodel name : bf16\n{flags}\n")
    assert has_bfloat16(tmp_path / "cpuinfo") is found


def test_losses_are_reckoned_in_full() -> None:
    assert full(torch.ones(2, dtype=torch.bfloat16)).dtype is torch.float32
    assert full(torch.ones(2, dtype=torch.int64)).dtype is torch.int64


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_one_pass_over_the_weights_steps_like_several(optimizer: str) -> None:
    config = TrainConfig.model_validate({"optimizer": optimizer, "weight_decay": 0.1})
    fused, plain = nn.Linear(8, 8), nn.Linear(8, 8)
    plain.load_state_dict(fused.state_dict())
    one = build_optimizer([{"params": list(fused.parameters())}], config)
    other = build_optimizer([{"params": list(plain.parameters())}], config)
    assert one.defaults["fused"]
    other.param_groups[0]["fused"] = None
    for seed in range(5):
        inputs = torch.randn(4, 8, generator=torch.Generator().manual_seed(seed))
        for model, steps in ((fused, one), (plain, other)):
            steps.zero_grad()
            model(inputs).square().sum().backward()
            steps.step()
    # Another order of additions in float32.
    assert torch.allclose(fused.weight, plain.weight, atol=1e-6)
