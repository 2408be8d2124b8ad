"""Checkpoints with torch.distributed.checkpoint: names without layout, so another number of ranks can load them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

# Without flattening, optimizer states are keyed by parameter group and do not survive a change of layout.
OPTIONS = StateDictOptions(flatten_optimizer_state_dict=True)
TIMEOUT = timedelta(seconds=60)

Optimizers = torch.optim.Optimizer | Sequence[torch.optim.Optimizer]
"""One optimizer, or several that share out the parameters of the model."""


def save(directory: Path, model: nn.Module, optimizer: Optimizers, extra: dict[str, Any]) -> None:
    """Write model, optimizer and `extra` (tensors and plain numbers) under `directory`; every rank must call it."""
    state_dict_saver.save(_state(model, optimizer, extra), checkpoint_id=directory)


class Saver:
    """Saves in the background: a step waits for the copy in host memory, and not for the disk.

    The threads of all ranks agree through a group of their own, so that they cannot get between the collectives of the
    steps that go on meanwhile. Every rank makes it, and calls its methods in the same order.
    """

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | None = None
        if dist.is_initialized():
            self._group = dist.new_group(backend="gloo", timeout=TIMEOUT)
        self._running: Future[Any] | None = None

    def save(self, directory: Path, model: nn.Module, optimizer: Optimizers, extra: dict[str, Any]) -> None:
        """Begin to write; first waits for the checkpoint before it. Raises what that one has failed with."""
        self.wait()
        state = _state(model, optimizer, extra)
        running = state_dict_saver.async_save(state, checkpoint_id=directory, process_group=self._group)
        self._running = running if isinstance(running, Future) else running.upload_completion

    @property
    def finished(self) -> bool:
        """Whether nothing is being written. On rank 0 that is so only when every rank has written its part."""
        return self._running is None or self._running.done()

    def wait(self) -> None:
        """Until the last checkpoint is written; only then may it be named to anyone. Raises what it has failed with."""
        running, self._running = self._running, None
        if running is not None:
            running.result()


def load(directory: Path, model: nn.Module, optimizer: Optimizers, extra: dict[str, Any]) -> dict[str, Any]:
    """Load into model and optimizer, in place, and return the stored `extra`; every rank must call it.

    `extra` gives the names, and the shapes of the tensors, that were saved.
    """
    state = _state(model, optimizer, extra)
    state_dict_loader.load(state, checkpoint_id=directory)
    set_state_dict(
        model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"], options=OPTIONS
    )
    loaded: dict[str, Any] = state["extra"]
    return loaded


def _state(model: nn.Module, optimizer: Optimizers, extra: dict[str, Any]) -> dict[str, Any]:
    model_state, optimizer_state = get_state_dict(model, optimizer, options=OPTIONS)
    return {"model": model_state, "optimizer": optimizer_state, "extra": extra}
