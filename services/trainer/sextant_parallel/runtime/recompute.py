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
    """Running statistics were updated by the first pass already, and must not be by the second."""
    norms = [part for part in block.modules() if isinstance(part, BATCH_NORMS)]
    were = [norm.track_running_stats for norm in norms]
    try:
        for norm in norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm, was in zip(norms, were, strict=True):
            norm.track_running_stats = was
