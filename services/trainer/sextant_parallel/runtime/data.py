"""Data parallelism: replicas by DistributedDataParallel or by one sum a step, shards by FSDP2 (ZeRO-1, 2 and 3).

The loss is a sum over samples, divided by the size of the global batch, so that uneven shares are weighted right. FSDP
and DDP average over their ranks, so the loss is multiplied by their number first; both numbers are exact in float32
where they are powers of two.

ZeRO stages in FSDP2's terms (Rajbhandari et al., 2020; Zhao et al., 2023):

- zero-3: parameters are freed after the forward pass and gathered again for the backward pass.
- zero-2: they are kept from the first forward pass of a step to the last backward pass; gradients are reduced and
  parted after each micro-batch.
- zero-1: as zero-2, but gradients are kept whole, and reduced once, after the last micro-batch.

In a pipeline torch reduces the gradients of a stage once, after its last micro-batch, whatever the stage of ZeRO.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.parallel import DistributedDataParallel

from sextant_parallel.runtime.mesh import Mesh
from sextant_parallel.runtime.parts import local
from sextant_parallel.runtime.precision import policy
from sextant_planner.plan import ParallelPlan, Sharding
from sextant_planner.record import PlanningError

BUCKET_BYTES = 25 * 2**20
LEAST_BUCKET_BYTES, BUCKETS = 256 * 2**10, 10
"""What is reduced beside the backward pass goes in about so many pieces: the last one is what nothing hides."""


class Replication(Protocol):
    """How the gradients of the data-parallel ranks come together."""

    module: nn.Module
    """What to call in place of the model."""
    scale: float
    """What to multiply the loss by."""

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward pass of a micro-batch; the last one of a step reduces."""
        ...

    def finish(self, parameters: Iterable[nn.Parameter]) -> None:
        """After the last micro-batch: the gradients are then those of the global batch."""
        ...


class Replicas:
    """Whole copies under DistributedDataParallel, which reduces while the backward pass still runs."""

    def __init__(self, module: nn.Module, mesh: Mesh) -> None:
        # From torch 2.13 on the flag has another name, and the old one warns; 2.11 knows the old one alone.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        trained = (parameter for parameter in module.parameters() if parameter.requires_grad)
        total = sum(parameter.numel() * parameter.element_size() for parameter in trained)
        bucket = min(BUCKET_BYTES, max(LEAST_BUCKET_BYTES, total / BUCKETS))
        self.module: nn.Module = DistributedDataParallel(
            module,
            process_group=mesh.group("dp_replicate"),
            broadcast_buffers=False,
            gradient_as_bucket_view=True,
            bucket_cap_mb=bucket / 2**20,
        )
        self.scale = float(mesh.plan.dp_replicate)

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """Micro-batches before the last one add to the local gradients."""
        return nullcontext() if last else self.module.no_sync()  # type: ignore[operator]

    def finish(self, parameters: Iterable[nn.Parameter]) -> None:
        """Nothing is left to do."""


class Sums:
    """Whole copies whose gradients are summed once, after the last micro-batch, along one axis after the other.

    For stages of a pipeline, for parameters that are DTensors of tensor parallelism, and for context parallelism: there
    DistributedDataParallel's hooks would not see every gradient. With no axis it does nothing.
    """

    def __init__(self, module: nn.Module, groups: tuple[dist.ProcessGroup, ...]) -> None:
        self.module = module
        self.scale = 1.0
        self._groups = groups

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """Gradients stay local until `finish`."""
        del last
        return nullcontext()

    def finish(self, parameters: Iterable[nn.Parameter]) -> None:
        """Sum in buckets."""
        sum_gradients(parameters, self._groups)


class Shards:
    """FSDP2 over `dp_shard`, and its hybrid form where there are replicas too."""

    def __init__(self, module: nn.Module, mesh: Mesh) -> None:
        self.module = module
        self.scale = float(mesh.plan.dp)
        self._sharding = mesh.plan.sharding
        self._hybrid = mesh.plan.dp_replicate > 1
        self._switches: dict[str, bool] = {}
        """What FSDP2 was last told; all are on by default."""
        self._groups = mesh.groups("cp")

    def accumulate(self, *, last: bool) -> AbstractContextManager[None]:
        """Set what FSDP2 does in the coming backward pass."""
        root = self.module
        if not isinstance(root, FSDPModule):
            raise TypeError(f"{type(root).__name__} is not sharded")
        # Each of these walks through the whole model, so they are called when they change something. Every backward
        # pass stays FSDP2's "last" one: that setting is for pipelines, and makes zero-3 gather once too often.
        self._switch(root.set_requires_gradient_sync, last or self._sharding is not Sharding.ZERO1)
        self._switch(root.set_requires_all_reduce, last or not self._hybrid)
        self._switch(root.set_reshard_after_backward, last or self._sharding is Sharding.ZERO3)
        return nullcontext()

    def _switch(self, setter: Callable[[bool], None], on: bool) -> None:
        if self._switches.get(setter.__name__, True) != on:
            self._switches[setter.__name__] = on
            setter(on)

    def finish(self, parameters: Iterable[nn.Parameter]) -> None:
        """Context-parallel ranks hold gradients of their own part of the sequence."""
        sum_gradients(parameters, self._groups)


def shard(module: nn.Module, blocks: Iterable[nn.Module], mesh: Mesh) -> None:
    """Apply FSDP2 to each block and to the rest, in place."""
    plan = mesh.plan
    # Skips that pass through a block come out of FSDP's hooks as views, of which it warns; nothing here works in place.
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module .* returned a view tensor", category=UserWarning)
    keep = plan.sharding is Sharding.ZERO3
    arguments = {"mesh": _shard_mesh(mesh), "mp_policy": policy(plan)}
    for block in blocks:
        if block is not module and any(True for _ in block.parameters()):
            fully_shard(block, reshard_after_forward=keep, **arguments)  # type: ignore[call-overload]
    fully_shard(module, reshard_after_forward=keep, **arguments)  # type: ignore[call-overload]


def replication(module: nn.Module, mesh: Mesh) -> Replication:
    """The right one for a plan; `module` is sharded already where the plan says so."""
    plan = mesh.plan
    if plan.dp_shard > 1:
        return Shards(module, mesh)
    if plan.dp_replicate > 1 and _is_plain(plan) and any(True for _ in module.parameters()):
        return Replicas(module, mesh)
    return Sums(module, mesh.groups("dp_replicate", "cp"))


def sum_gradients(parameters: Iterable[nn.Parameter], groups: tuple[dist.ProcessGroup, ...]) -> None:
    """Sum the local gradients over the ranks of each group in turn; a missing gradient counts as zeros."""
    if not groups:
        return
    grads = []
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        grads.append(local(parameter.grad))
    for bucket in _buckets(grads):
        flat = torch.cat([grad.reshape(-1) for grad in bucket])
        for group in groups:
            dist.all_reduce(flat, group=group)
        for grad, total in zip(bucket, torch.split(flat, [grad.numel() for grad in bucket]), strict=True):
            grad.copy_(total.view_as(grad))


def settle(parameters: Iterable[nn.Parameter]) -> None:
    """Sum what DTensor has left as parts: gradients of parameters that several ranks used for a part of a sequence."""
    for parameter in parameters:
        grad = parameter.grad
        if isinstance(grad, DTensor) and any(placement.is_partial() for placement in grad.placements):
            whole = [Replicate() if placement.is_partial() else placement for placement in grad.placements]
            parameter.grad = grad.redistribute(placements=whole)


def _is_plain(plan: ParallelPlan) -> bool:
    return plan.pp == plan.tp == plan.cp == 1


def _shard_mesh(mesh: Mesh) -> DeviceMesh:
    if mesh.root is None:
        raise PlanningError("one rank has nothing to shard over", field="dp_shard")
    if mesh.degree("dp_replicate") > 1:
        return mesh.root["dp_replicate", "dp_shard"]
    return mesh.root["dp_shard"]


def _buckets(grads: list[Tensor]) -> Iterable[list[Tensor]]:
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for grad in grads:
        by_type.setdefault(grad.dtype, []).append(grad)
    for same in by_type.values():
        bucket: list[Tensor] = []
        size = 0
        for grad in same:
            bucket.append(grad)
            size += grad.numel() * grad.element_size()
            if size >= BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
        if bucket:
            yield bucket
