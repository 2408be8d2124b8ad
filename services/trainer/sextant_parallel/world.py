"""The ranks that train together: joining, and the few things that they agree on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

# A rank that is gone must be noticed soon; the default of 30 minutes leaves survivors hanging.
TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class World:
    """This process's place among `size` ranks."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the rank that reports and writes."""
        return self.rank == 0

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The elementwise sum of `values` over all ranks, in place; every rank must call it."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()


def join(rank: int, size: int, rendezvous: Path) -> World:
    """Become one of `size` ranks that meet through the file `rendezvous`; a single rank needs nobody.

    A process that ends after training need not leave: the kernel closes its connections, and tearing down a group whose
    other ranks are gone can block. One that goes on calls `leave`, after it has let go of every DataParallel.
    """
    if size == 1:
        return World()
    store = FileStore(str(rendezvous), size)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return World(rank, size)


def leave() -> None:
    """End this process's membership; every rank calls it."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
