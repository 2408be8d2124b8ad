"""Parameter servers with bounded staleness, on point-to-point messages of torch.distributed.

The parameters are one flat vector, cut into contiguous shards, one a server; servers hold the optimizer's states and
live in host memory. A worker's clock counts its steps. Before step c it pulls parameters that hold every update up to
clock c - staleness of every worker, and waits where a server does not have them yet: stale synchronous parallel, Ho et
al., 2013. With staleness 0 a server adds the gradients of one clock in the order of the workers and makes one step:
bit for bit what one process makes that adds the same gradients in that order. With more, each gradient is applied as
it comes.

Synchronous data parallelism with sharded states (zero-1 to zero-3) is staleness 0 with every rank a server of its
shard, and faster; this mode is for workers of uneven or changing speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn

PULL, PUSH, DONE = 0, 1, 2
OptimizerOf = Callable[[list[Tensor]], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Roles:
    """Which ranks serve and which work: the first `servers` of the world serve."""

    servers: int
    workers: int

    def __post_init__(self) -> None:
        if self.servers < 1 or self.workers < 1:
            raise ValueError(f"at least one server and one worker are needed, not {self.servers} and {self.workers}")

    @property
    def worker_ranks(self) -> range:
        """Ranks of the workers."""
        return range(self.servers, self.servers + self.workers)

    def bounds(self, numbers: int) -> list[tuple[int, int]]:
        """The part of the flat vector that each server holds, as even as can be."""
        edges = [numbers * index // self.servers for index in range(self.servers + 1)]
        return list(pairwise(edges))


@dataclass
class Server:
    """Holds one shard of the parameters until every worker is done."""

    roles: Roles
    staleness: int
    shard: Tensor
    optimizer_of: OptimizerOf
    clocks: dict[int, int] = field(init=False)
    applied: int = 0
    """Optimizer steps so far."""
    worst: int = 0
    """The largest difference of clocks between a pull and the slowest worker that was ever answered."""

    def __post_init__(self) -> None:
        self.clocks = dict.fromkeys(self.roles.worker_ranks, 0)
        self._optimizer = self.optimizer_of([self.shard])
        self._pending: dict[int, dict[int, Tensor]] = {}
        self._waiting: list[tuple[int, int]] = []
        self._working = set(self.roles.worker_ranks)

    def serve(self) -> None:
        """Answer pulls and take pushes, from whoever comes, until all workers are done."""
        header = torch.zeros(2, dtype=torch.int64)
        while self._working:
            source = dist.recv(header)
            kind, clock = int(header[0]), int(header[1])
            if kind == PUSH:
                gradient = torch.empty_like(self.shard)
                dist.recv(gradient, src=source)
                self._take(source, clock, gradient)
            elif kind == PULL:
                self._waiting.append((source, clock))
            else:
                self._working.discard(source)
                self.clocks.pop(source)
                self._complete()
            self._answer()

    def _take(self, worker: int, clock: int, gradient: Tensor) -> None:
        self.clocks[worker] = clock + 1
        if self.staleness:
            self._step(gradient)
            return
        self._pending.setdefault(clock, {})[worker] = gradient
        self._complete()

    def _complete(self) -> None:
        """Apply the clocks that every working worker has sent its gradient of, in order."""
        while self._pending:
            clock = min(self._pending)
            got = self._pending[clock]
            if self._working - set(got):
                return
            total = torch.zeros_like(self.shard)
            for worker in sorted(got):
                total += got[worker]
            self._step(total)
            del self._pending[clock]

    def _step(self, gradient: Tensor) -> None:
        self.shard.grad = gradient
        self._optimizer.step()
        self.applied += 1

    def _answer(self) -> None:
        """Send parameters to those who wait for no worker any more."""
        slowest = min(self.clocks.values(), default=None)
        left = []
        for worker, clock in self._waiting:
            if slowest is not None and clock - slowest > self.staleness:
                left.append((worker, clock))
                continue
            self.worst = max(self.worst, clock - (clock if slowest is None else slowest))
            dist.send(self.shard.detach(), dst=worker)
        self._waiting = left


class Worker:
    """Computes gradients with the module's own parameters, which `pull` brings up to date."""

    def __init__(self, roles: Roles, module: nn.Module) -> None:
        self._roles = roles
        self._parameters = [p for p in module.parameters() if p.requires_grad]
        self._flat = flatten(self._parameters)
        self._bounds = roles.bounds(self._flat.numel())
        self.clock = 0

    def pull(self) -> None:
        """Bring the module's parameters up to date; waits where they would be too stale."""
        self._tell(PULL)
        for server, (first, end) in enumerate(self._bounds):
            dist.recv(self._flat[first:end], src=server)
        unflatten(self._flat, self._parameters)

    def push(self) -> None:
        """Send the gradients of this step, which ends it. A parameter without a gradient counts as one of zeros."""
        gradients = flatten([torch.zeros_like(p) if p.grad is None else p.grad for p in self._parameters])
        self._tell(PUSH)
        for server, (first, end) in enumerate(self._bounds):
            dist.send(gradients[first:end].contiguous(), dst=server)
        self.clock += 1

    def done(self) -> None:
        """Tell the servers that no more comes."""
        self._tell(DONE)

    def _tell(self, kind: int) -> None:
        header = torch.tensor([kind, self.clock], dtype=torch.int64)
        for server in range(self._roles.servers):
            dist.send(header, dst=server)


def make_server(roles: Roles, rank: int, module: nn.Module, optimizer_of: OptimizerOf, staleness: int) -> Server:
    """The server with this rank, for a module that every rank has initialised alike."""
    if staleness < 0:
        raise ValueError(f"staleness must be 0 or more, not {staleness}")
    flat = flatten([p for p in module.parameters() if p.requires_grad])
    first, end = roles.bounds(flat.numel())[rank]
    return Server(roles, staleness, nn.Parameter(flat[first:end].clone()), optimizer_of)


def flatten(tensors: Iterable[Tensor]) -> Tensor:
    """One vector of all numbers, in host memory."""
    return torch.cat([tensor.detach().reshape(-1).cpu() for tensor in tensors])


def unflatten(flat: Tensor, tensors: Iterable[Tensor]) -> None:
    """Put the numbers back, in place."""
    at = 0
    for tensor in tensors:
        tensor.data.copy_(flat[at : at + tensor.numel()].view_as(tensor))
        at += tensor.numel()
