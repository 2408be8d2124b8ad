"""Tensor parallelism (Shoeybi et al., 2019) by DTensor, and sequence parallelism (Korthikanti et al., 2022) on top.

A pair of linear layers is split by the outputs of the first and the inputs of the second, with one sum after it.
Without sequence parallelism the ranks hold the same activations between such pairs; with it each holds a part of the
sequence, the sum becomes a reduce-scatter, and a gather stands before the next pair.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from sextant_parallel.runtime.chain import Rule, rules_of, sequence_of
from sextant_parallel.runtime.collectives import part_of, whole_of
from sextant_parallel.runtime.convolution import split_convolutions

SEQUENCE = 1
"""The dimension of the sequence."""


def split_tensors(blocks: dict[str, nn.Module], mesh: DeviceMesh, *, sequence: bool) -> None:
    """Split, in place, the blocks that have rules; the others stay whole on every rank, and do the same work on each.

    `blocks` are this rank's; `sequence` asks for sequence parallelism where a block says that it has one.
    """
    for name, block in blocks.items():
        rules = rules_of(block)
        parted = sequence and sequence_of(block) == "split"
        styles = {path: style for path, rule in rules.items() if (style := _style(rule, sequence=parted)) is not None}
        if styles:
            parallelize_module(block, mesh, styles, src_data_rank=None)
        split_convolutions(name, block, rules, mesh)


def part_sequence(chain: dict[str, nn.Module], mesh: DeviceMesh) -> None:
    """Hooks that hand out the sequence before the blocks that work on a part of it, and put it together after them.

    What is outside works on the same whole sequence on all ranks, so that gathering needs no sum of gradients. Where
    context parallelism parts the sequence too, its hooks are there already: the parts of these ranks are parts of its
    part, handed out after it and put together before it.
    """
    group = mesh.get_group()
    for before, after in pairwise(chain.values()):
        if sequence_of(before) != "split" and sequence_of(after) == "split":
            before.register_forward_hook(lambda _module, _args, out: part_of(out, SEQUENCE, group))
        if sequence_of(before) == "split" and sequence_of(after) != "split":
            gather = lambda _module, args: (whole_of(args[0], SEQUENCE, group, summed=False),)  # noqa: E731
            after.register_forward_pre_hook(gather, prepend=True)


def _style(rule: Rule, *, sequence: bool) -> ParallelStyle | None:
    parts = Shard(SEQUENCE) if sequence else Replicate()
    styles: dict[Rule, ParallelStyle] = {
        Rule.COLUMN: ColwiseParallel(),
        Rule.COLUMN_GATHERED: ColwiseParallel(output_layouts=Replicate()),
        Rule.ROW: RowwiseParallel(output_layouts=parts),
        Rule.EMBEDDING: RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate()),
        Rule.SHARED_INPUT: PrepareModuleInput(input_layouts=(parts,), desired_input_layouts=(Replicate(),)),
    }
    if sequence:
        styles[Rule.SEQUENCE_NORM] = SequenceParallel()
    return styles.get(rule)
