"""Models as chains of blocks with global names, and what a block says of how it can be split over devices."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor, nn

Carry = Tensor | tuple[Tensor, ...]
"""What one block hands to the next: a tensor, or several where skips travel along."""

NO_RULES: Mapping[str, str] = MappingProxyType({})


class Block(nn.Module):
    """One step of a chain. The attributes are read, by these names, by whatever splits the model over devices.

    `tensor_rules` maps submodules to how tensor parallelism takes them apart:

    - `column`, `row`: a linear layer by its outputs, or by its inputs with a sum after it; the pair needs one sum.
    - `column-gathered`: a linear layer by its outputs, which are put together again.
    - `embedding`: a table by its rows.
    - `conv-column`, `conv-row`: a convolution by its outputs, or by its inputs with a sum after it.
    - `conv-norm`: a normalisation of the channels between such a pair.
    - `shared-input`: a module with one input, which goes to its `column` layers and to nothing else: its gradient is
      then summed once, not for each of them.
    - `sequence-norm`: a normalisation that works on a part of the sequence in sequence-parallel plans.

    `attention_names` are the submodules whose forward takes (queries, keys, values), each of the shape
    (batch, heads, sequence, width): context parallelism gathers keys and values before them.
    """

    kind: ClassVar[str] = "block"
    tensor_rules: ClassVar[Mapping[str, str]] = NO_RULES
    attention_names: ClassVar[tuple[str, ...]] = ()
    sequence: ClassVar[str] = ""
    """What dimension 1 is: `split` where a part of the sequence can be worked on alone (but for attention), `tokens`
    where moreover the block is the first or last and takes or gives one item a position, `whole` where the block needs
    or makes the whole sequence, and empty where there is no sequence."""
    batch_coupled: ClassVar[bool] = False
    """Whether a sample's result depends on the rest of its batch, as with batch normalisation."""

    @property
    def tensor_limit(self) -> int:
        """The largest tensor-parallel degree; degrees must divide it. 1 where the block cannot be split."""
        return 1


class BlockModel(nn.Module):
    """A chain of blocks, or a part of one: a pipeline stage is this class with fewer blocks, under the same names."""

    def __init__(self, blocks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleDict(dict(blocks))

    def forward(self, *carry: Tensor) -> Carry:
        """Run the blocks in turn; takes and returns what the first block takes and the last one returns."""
        value: Carry = carry if len(carry) > 1 else carry[0]
        for block in self.blocks.values():
            value = block(*value) if isinstance(value, tuple) else block(value)
        if isinstance(value, tuple):
            # What only passes through gets a place in the graph, or its gradient would be lost between two stages.
            return tuple(part.view_as(part) for part in value)
        return value

    def part(self, first: int, end: int) -> BlockModel:
        """The blocks [first, end) as a model of their own. They are shared, not copied."""
        return BlockModel(dict(list(self.blocks.items())[first:end]))
