"""Collectives with gradients. Each says what it does forward and backward, since that is all there is to them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function

from sextant_planner.record import PlanningError

# torch 2.13 has a new name for it, which 2.11 does not know.
_reduce_scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


class _Sum(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        out = x.contiguous().clone()
        dist.all_reduce(out, group=group)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


class _Share(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        out = grads[0].contiguous().clone()
        dist.all_reduce(out, group=ctx.group)
        return out, None


class _Contiguous(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].contiguous()


class _Part(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
        ctx.dim, ctx.group = dim, group
        return my_part(x, dim, dist.get_rank(group), dist.get_world_size(group))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _all_gather(grads[0], ctx.dim, ctx.group), None, None


class _Whole(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, group: dist.ProcessGroup, summed: bool) -> Tensor:
        ctx.dim, ctx.group, ctx.summed = dim, group, summed
        return _all_gather(x, dim, group)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        grad = grads[0]
        if ctx.summed:
            grad = grad.contiguous().clone()
            dist.all_reduce(grad, group=ctx.group)
        part = grad.chunk(dist.get_world_size(ctx.group), ctx.dim)[dist.get_rank(ctx.group)]
        return part.contiguous(), None, None, None


class _SumOfParts(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
        ctx.dim, ctx.group = dim, group
        ranks = dist.get_world_size(group)
        require_even(x.shape[dim], ranks)
        # Parts along the first dimension lie one after the other, as reduce_scatter takes them.
        parts = x.movedim(dim, 0).contiguous()
        out = parts.new_empty(len(parts) // ranks, *parts.shape[1:])
        _reduce_scatter(out, parts, group=group)
        return out.movedim(0, dim).contiguous()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _all_gather(grads[0], ctx.dim, ctx.group), None, None


def my_part(x: Tensor, dim: int, rank: int, ranks: int) -> Tensor:
    """A rank's equal part of `x`. Raises PlanningError where the parts would not be equal, on every rank alike."""
    length = x.shape[dim]
    require_even(length, ranks)
    return x.narrow(dim, rank * (length // ranks), length // ranks).contiguous()


def require_even(length: int, ranks: int) -> None:
    """Raises PlanningError where so many positions cannot be shared out evenly."""
    if length % ranks:
        near = length - length % ranks or ranks
        raise PlanningError(f"{length} positions are no multiple of {ranks} ranks", field="sequence", nearest=near)


def sum_over(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Forward the sum over the ranks, backward nothing: what follows is the same on all of them."""
    out: Tensor = _Sum.apply(x, group)  # type: ignore[no-untyped-call]
    return out


def share(x: Tensor, group: dist.ProcessGroup) -> Tensor:
    """Forward nothing, backward the sum over the ranks: each of them does another part of what follows."""
    out: Tensor = _Share.apply(x, group)  # type: ignore[no-untyped-call]
    return out


def contiguous_gradient(x: Tensor) -> Tensor:
    """Forward nothing, backward a gradient that can be sent."""
    out: Tensor = _Contiguous.apply(x)  # type: ignore[no-untyped-call]
    return out


def part_of(x: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    """Forward this rank's part of `x`, which is the same on all ranks; backward the parts put together."""
    out: Tensor = _Part.apply(x, dim, group)  # type: ignore[no-untyped-call]
    return out


def whole_of(x: Tensor, dim: int, group: dist.ProcessGroup, *, summed: bool) -> Tensor:
    """Forward the ranks' parts put together; backward this rank's part of the gradient.

    `summed`: the gradient is first summed over the ranks, because each does another part of what follows.
    """
    out: Tensor = _Whole.apply(x, dim, group, summed)  # type: ignore[no-untyped-call]
    return out


def sum_of_parts(x: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    """Forward this rank's part of the sum over the ranks; backward the parts put together."""
    out: Tensor = _SumOfParts.apply(x, dim, group)  # type: ignore[no-untyped-call]
    return out


def _all_gather(x: Tensor, dim: int, group: dist.ProcessGroup) -> Tensor:
    parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, x.contiguous(), group=group)
    return torch.cat(parts, dim)
