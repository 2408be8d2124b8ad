"""Tensor parallelism for linear layers and tables (Shoeybi et al., 2019), on this rank's part of the weights.

A pair of linear layers is split by the outputs of the first and the inputs of the second, with one sum after it. Where
the ranks hold parts of the sequence between such pairs (Korthikanti et al., 2022), a gather stands before the first and
the sum is scattered.
"""

from __future__ import annotations

from collections.abc import Callable

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


class ColumnLinear(nn.Linear):
    """A linear layer with a part of the outputs. The whole input comes in, the rank's outputs go out."""

    mesh: DeviceMesh
    shared: bool
    """Whether the input comes from a module that sums its gradient over the ranks."""
    gathered: bool
    """Whether the outputs of all ranks go out."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs / ranks), or (..., outputs)."""
        group = self.mesh.get_group()
        out = functional.linear(x if self.shared else share(x, group), local(self.weight), local(self.bias))
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
        # The last ranks have fewer rows, or none, where these cannot be shared out evenly.
        places = x - self.mesh.get_local_rank() * -(-self.num_embeddings // self.mesh.size())
        mine = (places >= 0) & (places < len(rows))
        found = functional.embedding(places.where(mine, 0), rows)
        return sum_over(found * mine.unsqueeze(-1), self.mesh.get_group())


def split_linear(name: str, block: nn.Module, rules: dict[str, Rule], mesh: DeviceMesh, *, sequence: bool) -> None:
    """Put the split classes in place of the block's own. Raises PlanningError naming what cannot be split.

    With `sequence` the ranks hold parts of the sequence outside of the pairs.
    """
    shared = [path for path, rule in rules.items() if rule is Rule.SHARED_INPUT]
    for path in shared:
        block.get_submodule(path).register_forward_pre_hook(_entering(mesh, sequence=sequence))
    for path, rule in rules.items():
        if rule in LAYERS:
            parent, _, last = path.rpartition(".")
            holder = block.get_submodule(parent)
            enters = any(path.startswith(f"{outer}.") for outer in shared)
            made = _split(f"{name}.{path}", getattr(holder, last), rule, mesh, shared=enters, sequence=sequence)
            setattr(holder, last, made)


def _entering(mesh: DeviceMesh, *, sequence: bool) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    """A hook that gives a module the whole input, whose gradient is summed over the ranks."""

    def enter(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        group = mesh.get_group()
        whole = whole_of(args[0], SEQUENCE, group, summed=True) if sequence else share(args[0], group)
        return (whole, *args[1:])

    return enter


def _split(name: str, module: nn.Module, rule: Rule, mesh: DeviceMesh, *, shared: bool, sequence: bool) -> nn.Module:
    match rule, module:
        case Rule.COLUMN | Rule.COLUMN_GATHERED, nn.Linear():
            gathered = rule is Rule.COLUMN_GATHERED
            return as_part(module, ColumnLinear, {"weight": 0, "bias": 0}, mesh, shared=shared, gathered=gathered)
        case Rule.ROW, nn.Linear():
            return as_part(module, RowLinear, {"weight": 1}, mesh, sequence=sequence)
        case Rule.EMBEDDING, nn.Embedding(padding_idx=None, max_norm=None):
            return as_part(module, PartEmbedding, {"weight": 0}, mesh)
    raise PlanningError(f"{name}: {type(module).__name__} cannot be split as {rule}", field="tp", nearest=1)
