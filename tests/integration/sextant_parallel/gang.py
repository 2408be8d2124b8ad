"""Runs a function as every rank of a small world of real processes, and gives what each returned."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import FileStore

TIMEOUT_S = 60.0


def run(size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """`function(rank, *arguments)` on `size` ranks that have joined a gloo world; what they return, in rank order.

    Raises AssertionError with the rank and its traceback where one fails.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory:
        ends: list[tuple[Any, Connection]] = []
        for rank in range(size):
            ours, theirs = context.Pipe(duplex=False)
            target = (rank, size, directory, theirs, function, arguments)
            process = context.Process(target=_rank, args=target, daemon=True)
            process.start()
            theirs.close()
            ends.append((process, ours))
        try:
            return [_result(rank, ours) for rank, (_, ours) in enumerate(ends)]
        finally:
            for process, _ in ends:
                process.kill()
                process.join()


def _result(rank: int, ours: Connection) -> Any:
    assert ours.poll(TIMEOUT_S), f"rank {rank} did not answer"
    try:
        worked, value = ours.recv()
    except EOFError:
        raise AssertionError(f"rank {rank} died") from None
    assert worked, f"rank {rank}: {value}"
    return value


def _rank(
    rank: int, size: int, directory: str, theirs: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        store = FileStore(str(Path(directory) / "rendezvous"), size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=timedelta(seconds=TIMEOUT_S))
        theirs.send((True, function(rank, *arguments)))
    except Exception:  # noqa: BLE001 - whatever it was, the parent shows it
        theirs.send((False, traceback.format_exc()))
    os._exit(0)
