"""Checkpoints with torch.distributed.checkpoint: names without layout, so another number of ranks can load them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict

# Without flattening, optimizer states are keyed by parameter group and do not survive a change of layout.
OPTIONS = StateDictOptions(flatten_optimizer_state_dict=True)


def save(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, extra: dict[str, Any]) -> None:
    """Write model, optimizer and `extra` (tensors and plain numbers) under `directory`; every rank must call it."""
    state_dict_saver.save(_state(model, optimizer, extra), checkpoint_id=directory)


def load(directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer, extra: dict[str, Any]) -> dict[str, Any]:
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


def _state(model: nn.Module, optimizer: torch.optim.Optimizer, extra: dict[str, Any]) -> dict[str, Any]:
    model_state, optimizer_state = get_state_dict(model, optimizer, options=OPTIONS)
    return {"model": model_state, "optimizer": optimizer_state, "extra": extra}
