"""Tensor parallelism (Shoeybi et al., 2019), and sequence parallelism (Korthikanti et al., 2022) on top.

Without sequence parallelism the ranks hold the same activations outside of the layers that are split; with it each
holds a part of the sequence there.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor.parallel import SequenceParallel, parallelize_module

from sextant_parallel.runtime.chain import Rule, rules_of, sequence_of
from sextant_parallel.runtime.collectives import part_of, whole_of
from sextant_parallel.runtime.convolution import split_convolutions
from sextant_parallel.runtime.linear import SEQUENCE, split_linear


def split_tensors(blocks: dict[str, nn.Module], mesh: DeviceMesh, *, sequence: bool) -> None:
    """Split, in place, the blocks that have rules; the others stay whole on every rank, and do the same work on each.

    `blocks` are this rank's; `sequence` asks for sequence parallelism where a block says that it has one.
    """
    for block in blocks.values():
        rules = rules_of(block)
        parted = sequence and sequence_of(block) == "split"
        if parted:
            norms = {path: SequenceParallel(use_local_output=True) for path in _norms(rules)}
            parallelize_module(block, mesh, dict(norms), src_data_rank=None)
        split_linear(block, rules, mesh, sequence=parted)
        split_convolutions(block, rules, mesh)


def _norms(rules: dict[str, Rule]) -> list[str]:
    return [path for path, rule in rules.items() if rule is Rule.SEQUENCE_NORM]


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
