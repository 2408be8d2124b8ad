"""Tensor parallelism for linear layers and tables (Shoeybi et al., 2019), on this rank's part of the weights.

A pair of linear layers is split by the outputs of the first and the inputs of the second, with one sum after it. Where
the ranks hold parts of the sequence between such pairs (Korthikanti et al., 2022), a gather stands before the first and
the sum is scattered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional

from sextant_parallel.runtime.chain import Rule
from sextant_parallel.runtime.collectives import share, sum_of_parts, sum_over, whole_of
from sextant_parallel.runtime.parts import as_part, local
from sextant_planner.record import PlanningError

SEQUENCE = 1
"""The dimension of the sequence."""
LAYERS = (Rule.COLUMN, Rule.COLUMN_GATHERED, Rule.ROW, Rule.EMBEDDING)
EVEN = (Rule.COLUMN_GATHERED, Rule.EMBEDDING)
"""What ranks must have equal parts of."""


class ColumnLinear(nn.Linear):
    """A linear layer with a part of the outputs. The whole input comes in, the rank's outputs go out."""

    mesh: DeviceMesh
    shared: bool
    """Whether the input comes from a module that takes care of it, as for all of its columns."""
    sequence: bool
    """Whether it comes as this rank's part of the sequence."""
    gathered: bool
    """Whether the outputs of all ranks go out."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs / ranks), or (..., outputs)."""
        group = self.mesh.get_group()
        whole = x if self.shared else _entered(x, group, sequence=self.sequence)
        out = functional.linear(whole, local(self.weight), local(self.bias))
        return whole_of(out, out.dim() - 1, group, summed=False) if self.gathered else out


class RowLinear(nn.Linear):
    """A linear layer with a part of the inputs. The rank's inputs come in, the whole output goes out."""

    mesh: DeviceMesh
    sequence: bool
    """Whether it goes out as this rank's part of the sequence."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs / ranks) -> (..., outputs)."""
        group, part = self.mesh.get_group(), functional.linear(x, local(self.weight))
        whole = sum_of_parts(part, SEQUENCE, group) if self.sequence else sum_over(part, group)
        if self.bias is None:
            return whole
        # Once, after the sum, and not in each of its parts. Each part of a sequence has a part of its gradient.
        bias = local(self.bias)
        return whole + (share(bias, group) if self.sequence else bias)


class PartEmbedding(nn.Embedding):
    """A table with a part of the rows; other rows count as zeros, and the parts are summed."""

    mesh: DeviceMesh

    def forward(self, x: Tensor) -> Tensor:
        """(...) int64 -> (..., width)."""
        rows = local(self.weight)
        places = x - self.mesh.get_local_rank() * len(rows)
        mine = (places >= 0) & (places < len(rows))
        found = functional.embedding(places.where(mine, 0), rows)
        return sum_over(found * mine.unsqueeze(-1), self.mesh.get_group())


def unsplittable(block: nn.Module, rules: Mapping[str, Rule], ranks: int) -> str | None:
    """Which submodule cannot be split as its rule says, and why; None where all can."""
    for path, rule in rules.items():
        module = block.get_submodule(path)
        if rule in LAYERS and not _is_plain(module, rule):
            return f"{path}: {type(module).__name__} cannot be split as {rule}"
        if rule in EVEN and module.weight.shape[0] % ranks:  # type: ignore[index]
            return f"{path}: {module.weight.shape[0]} rows are no multiple of {ranks} ranks"  # type: ignore[index]
        under = [rules[other] for other in rules if rule is Rule.SHARED_INPUT and _is_below(other, path)]
        if under.count(Rule.ROW) > 1:
            return f"{path}: the input of the second pair is not the one that is shared"
    return None


def split_linear(block: nn.Module, rules: Mapping[str, Rule], mesh: DeviceMesh, *, sequence: bool) -> None:
    """Put the split classes in place of the block's own, in which nothing is `unsplittable`.

    With `sequence` the ranks hold parts of the sequence outside of the pairs.
    """
    shared = [path for path, rule in rules.items() if rule is Rule.SHARED_INPUT]
    for path in shared:
        block.get_submodule(path).register_forward_pre_hook(_entering(mesh, sequence=sequence))
    for path, rule in rules.items():
        if rule in LAYERS:
            parent, _, last = path.rpartition(".")
            holder = block.get_submodule(parent)
            enters = any(_is_below(path, outer) for outer in shared)
            setattr(holder, last, _split(getattr(holder, last), rule, mesh, shared=enters, sequence=sequence))


def _is_below(path: str, outer: str) -> bool:
    return not outer or path.startswith(f"{outer}.")


def _is_plain(module: nn.Module, rule: Rule) -> bool:
    """Whether it computes what the class that takes its place does: not what a subclass makes of it."""
    if rule is not Rule.EMBEDDING:
        return isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
    match module:
        case nn.Embedding(padding_idx=None, max_norm=None, scale_grad_by_freq=False, sparse=False):
            return type(module).forward is nn.Embedding.forward
    return False


def _entered(x: Tensor, group: dist.ProcessGroup, *, sequence: bool) -> Tensor:
    """The whole input, whose gradient is summed over the ranks."""
    return whole_of(x, SEQUENCE, group, summed=True) if sequence else share(x, group)


def _entering(mesh: DeviceMesh, *, sequence: bool) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor]]:
    """A hook that does so for a module of one input."""

    def enter(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        if len(args) != 1:
            message = f"{type(module).__name__} shares one input, but was given {len(args)}"
            raise PlanningError(message, field="tp", nearest=1)
        return (_entered(args[0], mesh.get_group(), sequence=sequence),)

    return enter


def _split(module: nn.Module, rule: Rule, mesh: DeviceMesh, *, shared: bool, sequence: bool) -> nn.Module:
    if rule is Rule.ROW:
        return as_part(module, RowLinear, {"weight": 1}, mesh, sequence=sequence)
    if rule is Rule.EMBEDDING:
        return as_part(module, PartEmbedding, {"weight": 0}, mesh)
    inside = {"shared": shared, "sequence": sequence, "gathered": rule is Rule.COLUMN_GATHERED}
    return as_part(module, ColumnLinear, {"weight": 0, "bias": 0}, mesh, **inside)
