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

from sextant_parallel.runtime.parts import local

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
            known_mean, known_var = local(self.running_mean), local(self.running_var)
            rise, shift = (None if part is None else part.to(known_mean.dtype) for part in (weight, bias))
            return nn.functional.batch_norm(x, known_mean, known_var, rise, shift, False, 0.0, self.eps)
        mean, var, count = _statistics(x.detach(), self.groups)
        if self.track_running_stats:
            self._track(mean, var, count)
        out: Tensor = _Normalise.apply(  # type: ignore[no-untyped-call]
            x, weight, bias, mean, var, count, self.eps, self.groups
        )
        return out

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


def _wide(x: Tensor) -> Tensor:
    """In float32, or in float64 where it is."""
    return x if x.dtype is torch.float64 else x.float()


def _statistics(x: Tensor, groups: Groups) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (channels,), and the count (1,), over the batch of all ranks; float32, or float64 as `x` is."""
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    count = x.new_full((1,), x.numel() // x.shape[1], dtype=wide)
    # The kernel of one process, which reads what lies in memory as it lies: var_mean takes some ten times as long.
    none = x.new_zeros(x.shape[1], dtype=wide)
    mean, var = torch.batch_norm_update_stats(x, none, none.clone(), 0.0)
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
    """What one kernel does for one process, with statistics and sums of all ranks."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        mean: Tensor,
        var: Tensor,
        count: Tensor,
        eps: float,
        groups: Groups,
    ) -> Tensor:
        rise, shift = (None if part is None else part.to(mean.dtype) for part in (weight, bias))
        ctx.save_for_backward(x, weight, mean, var, count)
        ctx.eps, ctx.groups, ctx.bias_type = eps, groups, None if bias is None else bias.dtype
        return nn.functional.batch_norm(x, mean, var, rise, shift, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, var, count = ctx.saved_tensors
        # As the input lies in memory: the kernel has another way for what lies otherwise, which is slow and rounds.
        last = x.is_contiguous(memory_format=torch.channels_last)
        grad = grads[0].contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
        rate = torch.rsqrt(var + ctx.eps)
        # This rank's sums of the gradient, and of it times what was normalised: those of bias and weight too.
        _, along, whole = torch.ops.aten.native_batch_norm_backward(
            grad, x, torch.ones_like(mean), mean, var, mean, rate, False, ctx.eps, [False, True, True]
        )
        sums = torch.cat([whole, along]).to(mean.dtype)
        for group in ctx.groups:
            dist.all_reduce(sums, group=group)
        of_bias, of_weight = (sums / count).chunk(2)
        scale = rate if weight is None else rate * weight.to(mean.dtype)
        at, turned, scale, of_bias = (part[:, None, None] for part in (mean, -rate * of_weight, scale, of_bias))
        out = torch.addcmul(_wide(grad), _wide(x) - at, turned)
        out = torch.addcmul(-of_bias * scale, out, scale).to(x.dtype)
        of = (None if weight is None else along.to(weight.dtype), ctx.bias_type and whole.to(ctx.bias_type))
        return out, *of, None, None, None, None, None
