"""Context parallelism: each rank works on a part of the sequence, and gathers the keys and values for its attention.

This is the gather form (as in Llama 3, Dubey et al., 2024), not the ring (Liu et al., 2023): torch's ring attention has
no kernel for processors, and the gather gives the same result with one collective a layer. Its price is memory for the
keys and values of the whole sequence in one layer at a time. The parts are contiguous, so with causal attention the
last rank has the most to do: up to twice the mean. Gradients are summed over the ranks after the last micro-batch.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from sextant_parallel.runtime.chain import sequence_of
from sextant_parallel.runtime.collectives import my_part, whole_of

SEQUENCE = 1
PARTED = ("split", "tokens")


def split_context(chain: dict[str, nn.Module], mesh: DeviceMesh) -> None:
    """Hooks on all blocks of a model: the sequence is handed out and gathered, and so are keys and values."""
    for before, after in pairwise(chain.values()):
        _between(before, after, mesh)
    for block in chain.values():
        for name in getattr(block, "attention_names", ()):
            _gather_keys(block.get_submodule(name), mesh)


def place(chain: dict[str, nn.Module], length: int, mesh: DeviceMesh) -> None:
    """Tell the modules that ask for it (by an attribute `sequence_start`) where this rank's part of `length` begins."""
    start = mesh.get_local_rank() * (length // mesh.size())
    for block in chain.values():
        for module in block.modules():
            if hasattr(module, "sequence_start"):
                setattr(module, "sequence_start", start)  # noqa: B010 - nn.Module types its attributes as tensors


def part(x: Tensor, mesh: DeviceMesh) -> Tensor:
    """This rank's part of a batch of sequences (batch, sequence, ...)."""
    return my_part(x, SEQUENCE, mesh.get_local_rank(), mesh.size())


def _between(before: nn.Module, after: nn.Module, mesh: DeviceMesh) -> None:
    first, second = sequence_of(before) in PARTED, sequence_of(after) in PARTED
    if not first and second:
        # Gradients of what comes before are summed over the ranks later, so each rank keeps to those of its own part.
        before.register_forward_hook(lambda _module, _args, out: part(out, mesh))
    if first and not second:
        group = mesh.get_group()
        after.register_forward_pre_hook(lambda _module, args: (whole_of(args[0], SEQUENCE, group, summed=True),))


def _gather_keys(core: nn.Module, mesh: DeviceMesh) -> None:
    group = mesh.get_group()

    def gather(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        q, k, v = args
        return q, whole_of(k, 2, group, summed=True), whole_of(v, 2, group, summed=True)

    core.register_forward_pre_hook(gather)
