"""Tensor parallelism for convolutions: a pair, the first split by outputs and the second by inputs, with one sum.

The channels between the two live on one rank each, and so do their normalisation's parameters and statistics. DTensor's
own convolution is not used: it knows batch sharding alone, and gives wrong shapes where the batch is smaller than the
mesh.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional

from sextant_parallel.runtime.chain import Rule
from sextant_parallel.runtime.collectives import share, sum_over
from sextant_parallel.runtime.normalisation import PlannedBatchNorm
from sextant_parallel.runtime.parts import as_part, distribute, local

CONVOLUTIONS = (Rule.CONV_COLUMN, Rule.CONV_ROW, Rule.CONV_NORM)


class ColumnConvolution(nn.Conv2d):
    """Conv2d with a part of the output channels. The whole input comes in, the rank's channels go out."""

    mesh: DeviceMesh

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, outputs / ranks, ...)."""
        x = share(x, self.mesh.get_group())
        return functional.conv2d(x, local(self.weight), local(self.bias), self.stride, self.padding, self.dilation)


class RowConvolution(nn.Conv2d):
    """Conv2d with a part of the input channels. The rank's channels come in, the whole output goes out."""

    mesh: DeviceMesh

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels / ranks, height, width) -> (batch, outputs, ...)."""
        part = functional.conv2d(x, local(self.weight), None, self.stride, self.padding, self.dilation)
        whole = sum_over(part, self.mesh.get_group())
        # Once, after the sum, and not in each of its parts.
        return whole if self.bias is None else whole + local(self.bias)[:, None, None]


class PartGroupNorm(nn.GroupNorm):
    """GroupNorm with a part of the groups."""

    mesh: DeviceMesh

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels / ranks, ...) -> the same."""
        groups = self.num_groups // self.mesh.size()
        return functional.group_norm(x, groups, local(self.weight), local(self.bias), self.eps)


def unsplittable(block: nn.Module, rules: Mapping[str, Rule], ranks: int) -> str | None:
    """Which submodule cannot be split as its rule says, and why; None where all can."""
    for path, rule in rules.items():
        if rule in CONVOLUTIONS and (fault := _fault(block.get_submodule(path), rule, ranks)):
            return f"{path}: {fault}"
    return None


def split_convolutions(block: nn.Module, rules: Mapping[str, Rule], mesh: DeviceMesh) -> None:
    """Put the split classes in place of the block's own, in which nothing is `unsplittable`."""
    for path, rule in rules.items():
        if rule in CONVOLUTIONS:
            parent, _, last = path.rpartition(".")
            holder = block.get_submodule(parent)
            setattr(holder, last, _split(getattr(holder, last), rule, mesh))


def _fault(module: nn.Module, rule: Rule, ranks: int) -> str | None:
    match rule, module:
        case ((Rule.CONV_COLUMN | Rule.CONV_ROW), nn.Conv2d()):
            own = type(module).forward is not nn.Conv2d.forward
            plain = not own and module.groups == 1 and module.padding_mode == "zeros"
            return None if plain else "only torch's own convolutions, without groups and padded by zeros, can be split"
        case Rule.CONV_NORM, nn.BatchNorm2d():
            return None
        case Rule.CONV_NORM, nn.GroupNorm() if module.num_groups % ranks == 0:
            return None
    return f"{type(module).__name__} cannot be split as {rule}"


def _split(module: nn.Module, rule: Rule, mesh: DeviceMesh) -> nn.Module:
    match rule:
        case Rule.CONV_COLUMN:
            return as_part(module, ColumnConvolution, {"weight": 0, "bias": 0}, mesh)
        case Rule.CONV_ROW:
            return as_part(module, RowConvolution, {"weight": 1}, mesh)
    if isinstance(module, nn.BatchNorm2d):
        norm: nn.Module = PlannedBatchNorm.of(module, ())
        distribute(norm, {"weight": 0, "bias": 0, "running_mean": 0, "running_var": 0}, mesh)
        return norm
    return as_part(module, PartGroupNorm, {"weight": 0, "bias": 0}, mesh)
