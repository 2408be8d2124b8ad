"""Small worlds of real processes, forked from one that has imported torch, so that they start at once."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

PRELOAD = ["torch", "torch.distributed.fsdp", "torch.distributed.pipelining", "sextant_parallel.runtime", __name__]
TIMEOUT_S = 120.0
GLOO_TIMEOUT_S = 60.0


def run(size: int, function: Callable[..., Any], *arguments: Any, timeout_s: float = TIMEOUT_S) -> list[Any]:
    """What `function(*arguments)` returns on each of `size` ranks of a gloo world, one thread each, in rank order.

    Raises AssertionError with the rank and its traceback where one fails, the first to fail first, and with what every
    rank was at where they do not answer in time.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    with tempfile.TemporaryDirectory() as directory:
        processes: list[Any] = []
        ends: dict[Connection, int] = {}
        for rank in range(size):
            ours, theirs = context.Pipe(duplex=False)
            target = (rank, size, directory, theirs, timeout_s, function, arguments)
            process = context.Process(target=_rank, args=target, daemon=True)
            process.start()
            theirs.close()
            processes.append(process)
            ends[ours] = rank
        try:
            return _answers(ends, Path(directory), timeout_s)
        finally:
            for process in processes:
                process.kill()
                process.join()


def _answers(ends: dict[Connection, int], directory: Path, timeout_s: float) -> list[Any]:
    size = len(ends)
    found: dict[int, Any] = {}
    deadline = time.monotonic() + timeout_s
    while len(found) < size:
        waiting = [end for end, rank in ends.items() if rank not in found]
        ready = wait(waiting, max(0.0, deadline - time.monotonic()))
        if not ready:
            stacks = "".join(f"\nrank {rank}:\n{_stack(directory, rank).read_text()}" for rank in range(size))
            raise AssertionError(
                f"ranks {[ends[end] for end in waiting]} did not answer within {timeout_s:.0f} s{stacks}"
            )
        for end in ready:
            assert isinstance(end, Connection)
            found[ends[end]] = _answer(ends[end], end)
    return [found[rank] for rank in range(size)]


def _answer(rank: int, end: Connection) -> Any:
    try:
        worked, value = end.recv()
    except EOFError:
        raise AssertionError(f"rank {rank} died") from None
    if not worked:
        raise AssertionError(f"rank {rank}: {value}")
    return value


def _stack(directory: Path, rank: int) -> Path:
    return directory / f"stack-{rank}"


def _rank(
    rank: int,
    size: int,
    directory: str,
    theirs: Connection,
    timeout_s: float,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    import torch
    import torch.distributed as dist
    from torch._C._distributed_c10d import FileStore

    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    every_s = 0.9 * min(timeout_s, GLOO_TIMEOUT_S)
    faulthandler.dump_traceback_later(every_s, repeat=True, file=_stack(Path(directory), rank).open("w"))
    try:
        if size > 1:
            store = FileStore(str(Path(directory) / "rendezvous"), size)
            limit = timedelta(seconds=GLOO_TIMEOUT_S)
            dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=limit)
        theirs.send((True, function(*arguments)))
        if size > 1:
            dist.barrier()  # nobody's connections go away while another still needs them
    except Exception:  # noqa: BLE001 - whatever it was, the parent shows it
        theirs.send((False, traceback.format_exc()))
    os._exit(0)
