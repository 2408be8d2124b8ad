"""Parameter servers: synchronous to the bit without staleness, never staler than allowed with it."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch
import torch.distributed as dist
from tests.bench.ranks import run
from torch import Tensor, nn
from torch.nn import functional

from sextant_parallel.parameter_server import Roles, Worker, flatten, make_server

STEPS, WORKERS = 12, 2


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def batch(step: int, worker: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1000 * step + worker)
    inputs = torch.randn(8, 6, generator=generator)
    return inputs, inputs[:, :3].sin()


def optimizer_of(parameters: list[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def backward(module: nn.Module, step: int, worker: int) -> float:
    module.zero_grad()
    inputs, targets = batch(step, worker)
    loss = functional.mse_loss(module(inputs), targets) / WORKERS
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss)


def in_one_process() -> Tensor:
    """The same gradients, added in the order of the workers."""
    module = model()
    parameters = [nn.Parameter(flatten(module.parameters()))]
    optimizer = optimizer_of(list(parameters))
    for step in range(STEPS):
        total = torch.zeros_like(parameters[0])
        for worker in range(WORKERS):
            backward(module, step, worker)
            total += flatten([p.grad for p in module.parameters() if p.grad is not None])
        parameters[0].grad = total
        optimizer.step()
        at = 0
        for p in module.parameters():
            p.data.copy_(parameters[0].data[at : at + p.numel()].view_as(p))
            at += p.numel()
    return parameters[0].detach()


def play(servers: int, staleness: int, slow_s: float) -> Any:
    rank = dist.get_rank()
    roles, module = Roles(servers, WORKERS), model()
    if rank < servers:
        server = make_server(roles, rank, module, optimizer_of, staleness)
        server.serve()
        return server.shard.detach().numpy(), server.worst, server.applied
    worker = Worker(roles, module)
    losses = []
    for step in range(STEPS):
        worker.pull()
        if rank == servers and step % 4 == 0:
            time.sleep(slow_s)
        losses.append(backward(module, step, rank - servers))
        worker.push()
    worker.done()
    return losses


@pytest.mark.parametrize("servers", [1, 3])
def test_without_staleness_it_is_synchronous_sgd_to_the_bit(servers: int) -> None:
    results = run(servers + WORKERS, play, servers, 0, 0.0)
    got = torch.cat([torch.from_numpy(shard) for shard, _, _ in results[:servers]])
    assert torch.equal(got, in_one_process())
    assert all(worst == 0 and applied == STEPS for _, worst, applied in results[:servers])


def test_a_slow_worker_is_overtaken_by_no_more_than_the_staleness() -> None:
    results = run(1 + WORKERS, play, 1, 3, 0.15)
    _, worst, applied = results[0]
    assert 1 <= worst <= 3
    assert applied == STEPS * WORKERS
    assert results[1][-1] < results[1][0] / 2


def test_roles_and_staleness_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one server"):
        Roles(0, 1)
    with pytest.raises(ValueError, match="0 or more, not -1"):
        make_server(Roles(1, 1), 0, model(), optimizer_of, -1)
