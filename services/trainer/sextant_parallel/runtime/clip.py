"""The norm of all gradients over the mesh, and clipping by it (Pascanu et al., 2013)."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sextant_parallel.runtime.mesh import Mesh
from sextant_parallel.runtime.parts import local


@torch.no_grad()
def gradient_norm(parameters: Iterable[nn.Parameter], mesh: Mesh) -> Tensor:
    """The 2-norm of the gradients of the whole model, the same on every rank; all ranks must call it.

    A rank holds the parameters of its pipeline stages, of each the whole or a part; what several ranks hold counts
    once.
    """
    ranks = mesh.plan.world // mesh.plan.pp
    total = torch.zeros((), dtype=torch.float64, device=mesh.device)
    by_copies: dict[int, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            by_copies.setdefault(ranks // _parts(parameter.grad), []).append(local(parameter.grad))
    for copies, grads in by_copies.items():
        norms = torch.stack([torch.linalg.vector_norm(grad, dtype=torch.float32) for grad in grads])
        total += norms.double().square().sum() / copies
    if mesh.root is not None:
        dist.all_reduce(total)
    return total.sqrt().float()


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], norm: Tensor, limit: float) -> None:
    """Scale the gradients down to `limit` where their norm is over it."""
    grads = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
    if grads:
        torch._foreach_mul_(grads, torch.clamp(limit / (norm + 1e-6), max=1.0).to(grads[0].device))


def _parts(grad: Tensor) -> int:
    """Over how many ranks a gradient is parted."""
    if not isinstance(grad, DTensor):
        return 1
    sizes = zip(grad.placements, grad.device_mesh.shape, strict=True)
    return prod(size for placement, size in sizes if not placement.is_replicate())
