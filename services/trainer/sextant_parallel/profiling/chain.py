"""A model as a chain of blocks, whatever it is: its own blocks, the parts of a Sequential, or all of it as one."""

from __future__ import annotations

from torch import Tensor, nn

Carry = Tensor | tuple[Tensor, ...]


def blocks_of(model: nn.Module) -> dict[str, nn.Module]:
    """The blocks by name, in the order of the forward pass. A model that is no chain is one block."""
    chain = getattr(model, "blocks", None)
    if isinstance(chain, nn.ModuleDict):
        return dict(chain.items())
    if isinstance(model, nn.Sequential):
        return dict(model.named_children())
    return {"model": model}


def run_block(block: nn.Module, carry: Carry) -> Carry:
    """One block on what the one before it hands over."""
    result: Carry = block(*carry) if isinstance(carry, tuple) else block(carry)
    return result


def tensors_of(carry: Carry) -> tuple[Tensor, ...]:
    """Its parts."""
    return carry if isinstance(carry, tuple) else (carry,)
