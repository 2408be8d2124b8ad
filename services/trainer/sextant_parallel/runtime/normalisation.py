"""Batch normalisation over all data-parallel ranks, so that a plan gives what one process gives.

torch's SyncBatchNorm runs on CUDA alone. Here the statistics of the ranks are put together by the formula of Chan et
al. (1979) for means and variances of parts, which does not cancel as sums of squares do; the backward pass sums the two
means that it needs (Ioffe and Szegedy, 2015) over the same ranks. The statistics are those of one micro-batch over all
ranks: a plan with m micro-batches equals one process that takes the same m micro-batches one after the other.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd import Function
from torch.distributed.tensor import DTensor

Groups = tuple[dist.ProcessGroup, ...]
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class PlannedBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d whose batch is spread over `groups`, and whose channels may be a part (parameters are DTensors)."""

    groups: Groups = ()

    @classmethod
    def of(cls, norm: nn.Module, groups: Groups) -> PlannedBatchNorm:
        """The same parameters and statistics, over more ranks. Raises TypeError for what is not a BatchNorm2d."""
        if isinstance(norm, cls):
            return norm
        if not isinstance(norm, nn.BatchNorm2d):
            raise TypeError(f"{type(norm).__name__} cannot be synchronised; BatchNorm2d can")
        made = cls.__new__(cls)
        made.__dict__.update(norm.__dict__)
        made.groups = groups
        return made

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same; updates the running statistics in training."""
        weight, bias = local(self.weight), local(self.bias)
        if not self.training:
            return nn.functional.batch_norm(
                x, local(self.running_mean), local(self.running_var), weight, bias, False, 0.0, self.eps
            )
        mean, var, count = _statistics(x.detach(), self.groups)
        if self.track_running_stats:
            self._track(mean, var, count)
        out: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            x, mean, torch.rsqrt(var + self.eps), count, self.groups
        )
        if weight is None or bias is None:
            return out
        scaled: Tensor = out * weight[:, None, None] + bias[:, None, None]
        return scaled

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        running_mean, running_var = local(self.running_mean), local(self.running_var)
        if running_mean is None or running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        running_mean.lerp_(mean.to(running_mean.dtype), share)
        running_var.lerp_((var * (count / (count - 1).clamp(min=1))).to(running_var.dtype), share)


def synchronise(module: nn.Module, groups: Groups) -> None:
    """Replace every BatchNorm2d below `module` in place. Other batch normalisations raise TypeError."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, BATCH_NORMS):
                setattr(parent, name, PlannedBatchNorm.of(child, groups))


def local(tensor: Tensor | None) -> Any:
    """This rank's part of a DTensor; other tensors, and None, as they are."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _wide(x: Tensor) -> Tensor:
    """In float32, or in float64 where it is."""
    return x if x.dtype is torch.float64 else x.float()


def _statistics(x: Tensor, groups: Groups) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (channels,), float32, and the count (1,), over the batch of all ranks."""
    wide = _wide(x)
    count = torch.tensor([float(x.numel() // x.shape[1])], dtype=wide.dtype, device=x.device)
    var, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
    for group in groups:
        mean, var, count = _combine(mean, var, count, group)
    return mean, var, count


def _combine(mean: Tensor, var: Tensor, count: Tensor, group: dist.ProcessGroup) -> tuple[Tensor, Tensor, Tensor]:
    mine = torch.cat([count, mean, var])
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size(group))]
    dist.all_gather(parts, mine, group=group)
    counts, rest = torch.split(torch.stack(parts), [1, mine.numel() - 1], 1)
    means, variances = rest.chunk(2, 1)
    total = counts.sum(0)
    weights = counts / total
    together = (means * weights).sum(0)
    spread = ((variances + (means - together).square()) * weights).sum(0)
    return together, spread, total


class _Normalise(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mean: Tensor, rate: Tensor, count: Tensor, groups: Groups) -> Tensor:
        normal = ((_wide(x) - mean[:, None, None]) * rate[:, None, None]).to(x.dtype)
        ctx.save_for_backward(normal, rate, count)
        ctx.groups = groups
        return normal

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        normal, rate, count = ctx.saved_tensors
        grad, wide = _wide(grads[0]), _wide(normal)
        sums = torch.cat([grad.sum((0, 2, 3)), (grad * wide).sum((0, 2, 3))])
        for group in ctx.groups:
            dist.all_reduce(sums, group=group)
        mean, along = (sums / count).chunk(2)
        out = (grad - mean[:, None, None] - wide * along[:, None, None]) * rate[:, None, None]
        return out.to(normal.dtype), None, None, None, None
