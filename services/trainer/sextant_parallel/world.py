"""The ranks that train together: joining, and the few things that they agree on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore, TCPStore

from sextant_parallel.elastic import interfaces

# A rank that is gone must be noticed soon; the default of 30 minutes leaves survivors hanging.
TIMEOUT = timedelta(seconds=60)
COMPILING = timedelta(minutes=10)
"""Where blocks are compiled a rank may be at that for minutes, while others wait for it."""
PATIENCE = timedelta(hours=1)
SIGNS = ("Connection closed by peer", "Connection reset by peer", "Timed out waiting", "gloo", "NCCL")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Meeting:
    """Where ranks of several hosts meet: HOST:PORT, and on rank 0 the descriptor of a socket that listens there."""

    address: str
    listener: int | None = None


def join(rank: int, size: int, rendezvous: Path | Meeting, timeout: timedelta = TIMEOUT) -> None:
    """Become one of `size` ranks that meet through a file or at an address; a single rank needs nobody.

    A rank that is not heard of for `timeout` while others wait for it counts as gone.

    A process that ends after training need not leave: the kernel closes its connections, and tearing down a group whose
    other ranks are gone can block. One that goes on calls `leave`.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(rank % torch.cuda.device_count())
    if size == 1:
        return
    store = _meet(rank, size, rendezvous) if isinstance(rendezvous, Meeting) else FileStore(str(rendezvous), size)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)


def _meet(rank: int, size: int, meeting: Meeting) -> TCPStore:
    """Wait until all are there: some may have to fetch their data first, and whoever watches the gang ends the wait."""
    host, _, port = meeting.address.rpartition(":")
    interfaces.choose(host)
    store = TCPStore(
        host,
        int(port),
        is_master=rank == 0,
        wait_for_workers=False,
        timeout=TIMEOUT,
        master_listen_fd=meeting.listener if rank == 0 else None,
    )
    store.set(f"here/{rank}", "")
    store.wait([f"here/{other}" for other in range(size)], PATIENCE)
    return store


def lost_touch(error: BaseException) -> bool:
    """Whether an error says that other ranks are gone, and not that something is wrong with the work."""
    told = str(error)
    of_torch = isinstance(error, dist.DistError)
    return of_torch or (isinstance(error, RuntimeError) and any(sign in told for sign in SIGNS))


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


def all_of(value: T) -> list[T]:
    """Every rank's value, in the order of the ranks; every rank calls it."""
    if not dist.is_initialized():
        return [value]
    box: list[T] = [value] * dist.get_world_size()
    dist.all_gather_object(box, value)
    return box
