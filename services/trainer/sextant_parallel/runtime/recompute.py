"""Activation checkpointing (Chen et al., 2016), by block: activations are computed again in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from sextant_parallel.runtime.normalisation import BATCH_NORMS


def recompute(block: nn.Module) -> None:
    """Make the block keep its inputs alone. Its names, hooks and parameters stay as they are."""
    forward = block.forward

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _second_time(block)

    def again(*args: Any) -> Any:
        return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts)

    block.forward = again


@contextmanager
def _second_time(block: nn.Module) -> Iterator[None]:
    """Running statistics were updated by the first pass already: the second works on copies of them."""
    norms = [part for part in block.modules() if isinstance(part, BATCH_NORMS)]
    were = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers(recurse=False)]
    try:
        for norm, name, buffer in were:
            setattr(norm, name, buffer.clone())
        yield
    finally:
        for norm, name, buffer in were:
            setattr(norm, name, buffer)
