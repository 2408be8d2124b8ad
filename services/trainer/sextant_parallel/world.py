"""The ranks that train together: joining, and the few things that they agree on."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

# A rank that is gone must be noticed soon; the default of 30 minutes leaves survivors hanging.
TIMEOUT = timedelta(seconds=60)
T = TypeVar("T")


def join(rank: int, size: int, rendezvous: Path) -> None:
    """Become one of `size` ranks that meet through the file `rendezvous`; a single rank needs nobody.

    A process that ends after training need not leave: the kernel closes its connections, and tearing down a group whose
    other ranks are gone can block. One that goes on calls `leave`.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    if size == 1:
        return
    store = FileStore(str(rendezvous), size)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)


def leave() -> None:
    """End this process's membership; every rank calls it."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def leads() -> bool:
    """Whether this is the rank that reports and writes."""
    return not dist.is_initialized() or dist.get_rank() == 0


def barrier() -> None:
    """Wait until every rank is here."""
    if dist.is_initialized():
        dist.barrier()


def agree(value: T) -> T:
    """Rank 0's value, on every rank; every rank calls it."""
    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0)
    return box[0]
