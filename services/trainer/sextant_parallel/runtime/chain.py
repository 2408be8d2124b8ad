"""A model as a chain of blocks, and what each block says of how it can be split; read without knowing the zoo."""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from sextant_planner.plan import ParallelPlan
from sextant_planner.record import PlanningError

Carry = tuple[Tensor, ...]


class Rule(StrEnum):
    """How tensor parallelism takes a submodule apart; the values that a block's `tensor_rules` may have."""

    COLUMN = "column"
    COLUMN_GATHERED = "column-gathered"
    ROW = "row"
    EMBEDDING = "embedding"
    SHARED_INPUT = "shared-input"
    SEQUENCE_NORM = "sequence-norm"
    CONV_COLUMN = "conv-column"
    CONV_ROW = "conv-row"
    CONV_NORM = "conv-norm"


@runtime_checkable
class ChainModel(Protocol):
    """A model whose forward runs `blocks` in turn, and which can give a part of itself."""

    blocks: nn.ModuleDict

    def part(self, first: int, end: int) -> nn.Module:
        """The blocks [first, end), shared."""
        ...


@dataclass(frozen=True)
class Chain:
    """The blocks of a model by name, in the order of the forward pass."""

    model: nn.Module
    blocks: dict[str, nn.Module]
    divisible: bool
    """Whether it can be cut between two blocks; a module that is no chain counts as one block."""

    def part(self, first: int, end: int) -> nn.Module:
        """The blocks [first, end) as a module, under their names in the whole."""
        if not self.divisible or end - first == len(self.blocks):
            return self.model
        if isinstance(self.model, ChainModel):
            return self.model.part(first, end)
        return nn.Sequential(OrderedDict(list(self.blocks.items())[first:end]))

    def joined(self, parts: list[nn.Module]) -> nn.Module:
        """A module that holds several parts under their names; for their state, not to be run."""
        if len(parts) == 1:
            return parts[0]
        if isinstance(self.model, ChainModel):
            holder = nn.Module()
            named = [item for part in parts for item in cast("ChainModel", part).blocks.items()]
            holder.blocks = nn.ModuleDict(dict(named))
            return holder
        return nn.Sequential(OrderedDict(item for part in parts for item in part.named_children()))

    def skeleton(self) -> list[nn.Module]:
        """The blocks without memory (on the meta device), to try shapes with."""
        tensors = [*self.model.parameters(), *self.model.buffers()]
        memo: dict[int, object] = {}
        for tensor in tensors:
            empty = tensor.detach().to("meta")
            memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty
        return [copy.deepcopy(block, memo) for block in self.blocks.values()]


def chain_of(model: nn.Module) -> Chain:
    """A model with `blocks` and `part`, or a Sequential, as a chain; any other as one block that cannot be cut."""
    if isinstance(model, ChainModel):
        return Chain(model, dict(model.blocks.items()), True)
    if isinstance(model, nn.Sequential):
        return Chain(model, dict(model.named_children()), True)
    return Chain(model, {type(model).__name__: model}, False)


def rules_of(block: nn.Module) -> dict[str, Rule]:
    """The block's rules for those submodules that it has. Raises PlanningError for a rule that is not known.

    None where one of these was put in place of another (`replaces_layer`): it is not what the rules were written for.
    """
    known = dict(block.named_modules())
    try:
        rules = {name: Rule(rule) for name, rule in getattr(block, "tensor_rules", {}).items() if name in known}
        return {} if any(getattr(known[name], "replaces_layer", False) for name in rules) else rules
    except ValueError as error:
        raise PlanningError(f"{type(block).__name__}: {error}", field="tensor_rules") from None


def sequence_of(block: nn.Module) -> str:
    """What the block says of dimension 1: `split`, `tokens`, `whole` or nothing."""
    return str(getattr(block, "sequence", ""))


def stage_ranges(plan: ParallelPlan, blocks: int) -> tuple[tuple[int, int], ...]:
    """The block ranges of the virtual stages: the plan's, or as even as can be. Raises PlanningError for gaps."""
    count = plan.pp * plan.virtual_stages
    if plan.stages:
        ends = (0, *(end for _, end in plan.stages))
        whole = all(first == end and last > first for end, (first, last) in zip(ends, plan.stages, strict=False))
        if not whole or ends[-1] != blocks:
            raise PlanningError(f"stages {plan.stages} are no cut of {blocks} blocks", field="stages")
        return plan.stages
    if blocks < count:
        raise PlanningError(f"{blocks} blocks are too few for {count} stages", field="pp", nearest=blocks)
    cuts = [round(index * blocks / count) for index in range(count + 1)]
    return tuple(pairwise(cuts))


def boundaries(skeleton: list[nn.Module], inputs: Tensor) -> list[Carry]:
    """What stands before each block and after the last, as tensors on the meta device, for inputs like `inputs`."""
    carry: Carry = (torch.empty_like(inputs, device="meta"),)
    found = [carry]
    with torch.no_grad():
        for block in skeleton:
            value = block(*carry)
            carry = value if isinstance(value, tuple) else (value,)
            found.append(carry)
    return found
