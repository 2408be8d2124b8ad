"""What one block hands to the next, as profiling feeds it: one tensor, or several."""

from __future__ import annotations

from torch import Tensor, nn

Carry = Tensor | tuple[Tensor, ...]


def run_block(block: nn.Module, carry: Carry) -> Carry:
    """One block on what the one before it hands over."""
    result: Carry = block(*carry) if isinstance(carry, tuple) else block(carry)
    return result


def tensors_of(carry: Carry) -> tuple[Tensor, ...]:
    """Its parts."""
    return carry if isinstance(carry, tuple) else (carry,)


def like(carry: Carry, parts: tuple[Tensor, ...]) -> Carry:
    """`parts` in the form of `carry`: one tensor for one."""
    return parts if isinstance(carry, tuple) else parts[0]
