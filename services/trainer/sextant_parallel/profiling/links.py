"""What moving data between the ranks of a running world costs: seconds by bytes, collective and group size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from sextant_planner.cluster import Cluster, Collective, Device, Link
from sextant_planner.model import Points

SIZES = (1 << 10, 1 << 14, 1 << 17, 1 << 20, 1 << 22)
"""Bytes; the time is interpolated between, and extended beyond the last."""
SMALL, MORE = 1 << 17, 4
Members = tuple[dist.ProcessGroup, list[int]]
"""A group, and its ranks in the world."""


def measure_cluster(
    name: str,
    device: Device,
    reaches: Sequence[tuple[str, int]],
    *,
    sizes: Sequence[int] = SIZES,
    repeats: int = 7,
) -> Cluster:
    """The cluster that this world is. Every rank calls it, and all get the same.

    `reaches`: the links by name, with the number of neighbouring ranks that each joins, the nearest first; the last
    one joins all.
    """
    size = dist.get_world_size()
    links = []
    nearer = 1
    for link, reach in reaches:
        tables: dict[str, Points] = {}
        for count in range(2, reach + 1):
            stride = _stride(count, nearer, reach)
            if reach % count or stride is None:
                continue
            mine = _group(count, stride)
            for kind in (Collective.ALL_REDUCE, Collective.ALL_GATHER, Collective.REDUCE_SCATTER):
                tables[f"{kind}/{count}"] = _table(kind, mine, sizes, repeats)
        tables[f"{Collective.SEND}/2"] = _table(Collective.SEND, _group(2, nearer), sizes, repeats)
        (small, fast), (large, slow) = tables[f"{Collective.SEND}/2"][0], tables[f"{Collective.SEND}/2"][-1]
        bandwidth = (large - small) / max(slow - fast, 1e-9)
        links.append(Link(name=link, size=reach, bandwidth=bandwidth, latency_s=fast, tables=tables, source="measured"))
        nearer = reach
    return Cluster(
        name=name,
        devices=(device,),
        layout=(0,) * size,
        links=tuple(links),
        prefetch=torch.cuda.is_available(),
    )


def overlap_slowdown(seconds: float = 0.5) -> float:
    """How much longer a matrix product takes while this rank takes part in an all-reduce. Every rank calls it."""
    matrix = torch.randn(256, 256)
    alone = _products(matrix, seconds)
    data = torch.zeros(1 << 18)
    busy = []
    for _ in range(5):
        dist.barrier()
        work = dist.all_reduce(data, async_op=True)
        began = time.perf_counter()
        count = 0
        while not work.is_completed() and time.perf_counter() - began < seconds:
            matrix @ matrix
            count += 1
        if count:
            busy.append((time.perf_counter() - began) / count)
        work.wait()
    return max(1.0, statistics.median(busy) / alone) if busy else 1.0


def _stride(count: int, nearer: int, reach: int) -> int | None:
    """The least distance of members at which a group of `count` needs this link and no farther one."""
    for stride in range(1, reach // count + 1):
        if reach % (stride * count) == 0 and stride * count > nearer:
            return stride
    return None


def _table(kind: Collective, mine: Members | None, sizes: Sequence[int], repeats: int) -> Points:
    """Small messages are sent more often: they take little time, and vary by more."""
    return tuple(
        (float(size), _agreed(_seconds(kind, size, mine, repeats * (MORE if size <= SMALL else 1)))) for size in sizes
    )


def _group(count: int, stride: int) -> Members | None:
    """This rank's group, if it is in one: some are left over where the world is no multiple of the groups.

    All groups are made by all ranks, in the same order.
    """
    size, rank = dist.get_world_size(), dist.get_rank()
    mine: Members | None = None
    for block in range(0, size, count * stride):
        for first in range(block, block + stride):
            members = [first + stride * index for index in range(count)]
            if members[-1] >= size:
                continue
            group = dist.new_group(members)
            if rank in members:
                mine = (group, members)
    return mine


def _seconds(kind: Collective, size: int, mine: Members | None, repeats: int) -> float | None:
    if mine is None:
        for _ in range(repeats + 2):
            dist.barrier()
        return None
    group, members = mine
    count = len(members)
    whole = torch.zeros(max(count, size // 4 // count * count))
    part = torch.zeros(len(whole) // count)
    actions: dict[Collective, Callable[[], object]] = {
        Collective.ALL_REDUCE: lambda: dist.all_reduce(whole, group=group),
        Collective.ALL_GATHER: lambda: dist.all_gather_into_tensor(whole, part, group=group),
        Collective.REDUCE_SCATTER: lambda: dist.reduce_scatter_tensor(part, whole, group=group),
        Collective.SEND: lambda: _there_and_back(whole, group, members),
    }
    taken = []
    for number in range(repeats + 2):
        dist.barrier()
        began = time.perf_counter()
        actions[kind]()
        if number >= 2:
            taken.append(time.perf_counter() - began)
    # A step is a sum of many: it is means that add up. The greatest may be a stall that comes once.
    kept = sorted(taken)[: max(1, repeats - 1)]
    return statistics.fmean(kept) / (2 if kind is Collective.SEND else 1)


def _there_and_back(data: Tensor, group: dist.ProcessGroup, members: list[int]) -> None:
    first, second = members[0], members[1]
    if dist.get_rank() == first:
        dist.send(data, second, group=group)
        dist.recv(data, second, group=group)
    elif dist.get_rank() == second:
        dist.recv(data, first, group=group)
        dist.send(data, first, group=group)


def _agreed(seconds: float | None) -> float:
    """The mean over the ranks that took part, which makes the table the same everywhere."""
    sums = torch.tensor([seconds or 0.0, float(seconds is not None)], dtype=torch.float64)
    dist.all_reduce(sums)
    total, count = sums.tolist()
    return float(total / count)


def _products(matrix: Tensor, seconds: float) -> float:
    began = time.perf_counter()
    count = 0
    while time.perf_counter() - began < seconds:
        matrix @ matrix
        count += 1
    return (time.perf_counter() - began) / count
