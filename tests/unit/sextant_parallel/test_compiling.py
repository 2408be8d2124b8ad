"""Compiled blocks: what a probe has decided of them holds for plans that come later, and what cannot be is refused."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from tests.unit.sextant_planner.models import chain, cluster
from torch import nn
from torch._dynamo.utils import counters

from sextant_parallel import DynamicParallel, OptimizedPlan
from sextant_parallel.runtime import apply
from sextant_parallel.runtime.chain import chain_of
from sextant_parallel.runtime.checks import require_runnable
from sextant_planner.plan import ParallelPlan, Schedule
from sextant_planner.record import PlanningError


@pytest.mark.parametrize("compiled", [True, False])
def test_a_plan_that_comes_later_is_compiled_as_the_one_before(compiled: bool) -> None:
    devices = cluster(2)
    dynamic = DynamicParallel(
        {"compile": True, "auto_tune": True, "global_batch": 8}, model=chain([0.01] * 4), cluster=devices
    )
    optimized = dynamic.optimize()
    assert optimized.plan.compile
    assert "compiled" in optimized.plan.describe()
    choice = optimized.decision.choice
    best = choice.best.model_copy(update={"plan": optimized.plan.model_copy(update={"compile": compiled})})
    tried = choice.model_copy(update={"candidates": (best, *choice.candidates[1:])})
    rebalancer = dynamic.rebalancer(optimized)
    rebalancer.optimized = OptimizedPlan(optimized.decision.model_copy(update={"choice": tried}))
    assert rebalancer._replan(devices).plan == best.plan


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++, which compiled blocks need on processors")
def test_blocks_are_compiled() -> None:
    def sgd(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=0.1)

    torch.compiler.reset()
    model = nn.Sequential(nn.Sequential(nn.Linear(2, 4), nn.ReLU()), nn.Linear(4, 2))
    runtime = apply(model, ParallelPlan(global_batch=4, compile=True), optimizer=sgd, loss=lambda out, _: out.sum())
    counters.clear()
    runtime.train_step(torch.ones(4, 2), torch.zeros(4))
    assert counters["stats"]["unique_graphs"] == 2
    assert set(runtime.state()) == {"0.0.weight", "0.0.bias", "1.weight", "1.bias"}


def test_zero_bubbles_and_parts_of_sequences_are_not_compiled() -> None:
    config = {"compile": True, "pipeline_stages": 2, "schedules": ["interleaved-zero-bubble"]}
    plan = DynamicParallel({**config, "global_batch": 8}, model=chain([0.01] * 4), cluster=cluster(2)).optimize().plan
    assert plan.schedule is Schedule.ZERO_BUBBLE
    assert not plan.compile


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(PlanningError, match="needs a compiler") as caught:
        require_runnable(chain_of(nn.Sequential(nn.Linear(2, 2))), ParallelPlan(global_batch=2, compile=True))
    assert caught.value.field == "compile"
    assert isinstance(caught.value.nearest, ParallelPlan)
    assert not caught.value.nearest.compile
