"""Local steps: with an agreement after each it is plain averaging; with fewer the ranks part, and meet again."""

from __future__ import annotations

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from tests.bench.ranks import run
from torch import Tensor, nn
from torch.nn import functional

from sextant_parallel.local_steps import LocalSteps, Outer
from sextant_parallel.parameter_server import flatten

STEPS = 8


def loss_of(module: nn.Module, step: int, rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(100 * step + rank)
    inputs = torch.randn(16, 5, generator=generator)
    return functional.mse_loss(module(inputs), inputs[:, :2])


def train(outer: Outer) -> tuple[NDArray[np.float32], list[bool], list[float]]:
    torch.manual_seed(0)
    module = nn.Linear(5, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    local = LocalSteps(module, outer)
    met, losses = [], []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(module, step, dist.get_rank())
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        met.append(local.step())
        losses.append(float(loss.detach()))
    return flatten(module.parameters()).numpy(), met, losses


def test_an_agreement_after_every_step_is_the_mean_gradient() -> None:
    """For SGD the mean of the parameters after a step is a step along the mean gradient."""
    results = run(2, train, Outer(every=1, rate=1.0, momentum=0.0))
    torch.manual_seed(0)
    module = nn.Linear(5, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        ((loss_of(module, step, 0) + loss_of(module, step, 1)) / 2).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    # Two orders of adding float32 numbers, over eight steps.
    np.testing.assert_allclose(results[0][0], flatten(module.parameters()).numpy(), atol=1e-6)
    np.testing.assert_array_equal(results[0][0], results[1][0])


def test_fewer_agreements_still_bring_the_ranks_together_and_the_loss_down() -> None:
    first, second = run(2, train, Outer(every=4))
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == [False, False, False, True] * 2
    assert first[2][-1] < first[2][0] / 2
