"""Small worlds of real processes, forked from one that has imported torch, so that they start at once."""

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

PRELOAD = ["torch", "torch.distributed.fsdp", "torch.distributed.pipelining", "sextant_parallel.runtime", __name__]
TIMEOUT_S = 60.0


def run(size: int, function: Callable[..., Any], *arguments: Any, timeout_s: float = TIMEOUT_S) -> list[Any]:
    """What `function(*arguments)` returns on each of `size` ranks of a gloo world, one thread each, in rank order.

    Raises AssertionError with the rank and its traceback where one fails or does not answer.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
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
            return [_result(rank, ours, timeout_s) for rank, (_, ours) in enumerate(ends)]
        finally:
            for process, _ in ends:
                process.kill()
                process.join()


def _result(rank: int, ours: Connection, timeout_s: float) -> Any:
    if not ours.poll(timeout_s):
        raise AssertionError(f"rank {rank} did not answer within {timeout_s:.0f} s")
    try:
        worked, value = ours.recv()
    except EOFError:
        raise AssertionError(f"rank {rank} died") from None
    if not worked:
        raise AssertionError(f"rank {rank}: {value}")
    return value


def _rank(
    rank: int, size: int, directory: str, theirs: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    try:
        if size > 1:
            store = FileStore(str(Path(directory) / "rendezvous"), size)
            limit = timedelta(seconds=TIMEOUT_S)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
        theirs.send((True, function(*arguments)))
        if size > 1:
            dist.barrier()  # nobody's connections go away while another still needs them
    except Exception:  # noqa: BLE001 - whatever it was, the parent shows it
        theirs.send((False, traceback.format_exc()))
    os._exit(0)
