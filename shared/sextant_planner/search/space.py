"""Every combination of degrees, sharding, schedule and micro-batches that a model and a cluster allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sextant_planner.cluster import Cluster
from sextant_planner.model import ModelProfile
from sextant_planner.plan import ParallelPlan, Precision, Schedule, Sharding

LONG_SEQUENCE = 8192
"""Tokens from which on context parallelism is looked at."""
CHUNKS = (1, 2, 3, 4, 6, 8)
MICROBATCHES_A_STAGE = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller has fixed; None leaves it to the search."""

    global_batch: int
    dp: int | None = None
    tp: int | None = None
    pp: int | None = None
    cp: int | None = None
    sharding: tuple[Sharding, ...] = tuple(Sharding)
    schedules: tuple[Schedule, ...] = tuple(Schedule)
    microbatches: int | None = None
    precision: Precision = Precision.FLOAT32
    offload_optimizer: bool = False
    recompute: bool = True
    """Whether blocks may be computed again to save memory."""
    compile: bool = False
    """Whether blocks are compiled where torch can."""


def divisors(number: int) -> list[int]:
    """In rising order."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def plans(model: ModelProfile, cluster: Cluster, wishes: Wishes) -> Iterator[ParallelPlan]:
    """Without stages and recomputation, which follow from each."""
    world = cluster.size
    for tp in _tensor_degrees(model, cluster, wishes):
        for cp in _context_degrees(model, world // tp, wishes):
            for pp in _pipeline_degrees(model, world // tp // cp, wishes):
                dp = world // tp // cp // pp
                if (wishes.dp is None or dp == wishes.dp) and dp <= wishes.global_batch:
                    yield from _with_degrees(model, cluster, wishes, tp, cp, pp, dp)


def _with_degrees(
    model: ModelProfile, cluster: Cluster, wishes: Wishes, tp: int, cp: int, pp: int, dp: int
) -> Iterator[ParallelPlan]:
    sequence = tp > 1 and any(b.tensor and b.tensor.sequence for b in model.blocks)
    for shard, sharding in _shardings(cluster, wishes, dp, tp * cp):
        if pp > 1 and sharding is Sharding.ZERO2:
            # The stages of a pipeline reduce once a step: the same as ZeRO-1.
            continue
        for schedule, chunks in _schedules(model, wishes, pp):
            if schedule is Schedule.ZERO_BUBBLE and sharding is not Sharding.NONE:
                # torch 2.13 loses gradients of some stages without a word.
                continue
            for count in _microbatches(wishes, dp, pp, chunks):
                yield ParallelPlan.model_construct(
                    dp_replicate=dp // shard,
                    dp_shard=shard,
                    tp=tp,
                    pp=pp,
                    cp=cp,
                    sharding=sharding,
                    sequence_parallel=sequence,
                    schedule=schedule,
                    virtual_stages=chunks,
                    global_batch=wishes.global_batch,
                    microbatches=count,
                    precision=wishes.precision,
                    offload_optimizer=wishes.offload_optimizer,
                    compile=wishes.compile and cp == 1 and schedule is not Schedule.ZERO_BUBBLE,
                )


def _tensor_degrees(model: ModelProfile, cluster: Cluster, wishes: Wishes) -> list[int]:
    if not any(block.tensor for block in model.blocks):
        return [1] if wishes.tp in (None, 1) else []
    limits = {block.tensor.limit for block in model.blocks if block.tensor}
    # Between nodes tensor parallelism has not paid on any machine that we know; a cluster of one link has no nodes.
    reach = cluster.links[0].size if len(cluster.links) > 1 else cluster.size
    fitting = [d for d in divisors(cluster.size) if d <= reach and all(limit % d == 0 for limit in limits)]
    return fitting if wishes.tp is None else [d for d in fitting if d == wishes.tp]


def _context_degrees(model: ModelProfile, left: int, wishes: Wishes) -> list[int]:
    possible = all(block.context for block in model.blocks)
    if not possible or (wishes.cp is None and model.sequence < LONG_SEQUENCE):
        return [1] if wishes.cp in (None, 1) else []
    fitting = [d for d in divisors(left) if model.sequence % (2 * d) == 0 and model.sequence // d >= 1024]
    return (fitting or [1]) if wishes.cp is None else [d for d in divisors(left) if d == wishes.cp]


def _pipeline_degrees(model: ModelProfile, left: int, wishes: Wishes) -> list[int]:
    fitting = [d for d in divisors(left) if d <= len(model.blocks) and d <= wishes.global_batch]
    return fitting if wishes.pp is None else [d for d in fitting if d == wishes.pp]


def _shardings(cluster: Cluster, wishes: Wishes, dp: int, inner: int) -> Iterator[tuple[int, Sharding]]:
    """Groups that share states out: all of the data-parallel ranks, or those of one node."""
    if Sharding.NONE in wishes.sharding:
        yield 1, Sharding.NONE
    if dp == 1:
        return
    nodes = {link.size // inner for link in cluster.links[:-1] if link.size >= 2 * inner}
    for shard in sorted({dp, *(size for size in nodes if size < dp and dp % size == 0)}):
        for sharding in wishes.sharding:
            if sharding is not Sharding.NONE:
                yield shard, sharding


def _schedules(model: ModelProfile, wishes: Wishes, pp: int) -> Iterator[tuple[Schedule, int]]:
    if pp == 1:
        yield Schedule.ONE_F_ONE_B, 1
        return
    for schedule in wishes.schedules:
        chunked = schedule in (Schedule.INTERLEAVED, Schedule.ZERO_BUBBLE)
        for chunks in CHUNKS if chunked else (1,):
            if chunks * pp <= len(model.blocks) and (chunks > 1 or not chunked):
                yield schedule, chunks


def _microbatches(wishes: Wishes, dp: int, pp: int, chunks: int) -> list[int]:
    share = wishes.global_batch // dp
    if wishes.global_batch % dp:
        # Uneven shares: one micro-batch, or as many as every share holds.
        return [1] if pp == 1 and wishes.microbatches in (None, 1) else []
    fitting = [d for d in divisors(share) if d >= pp and (chunks == 1 or d % pp == 0)]
    if wishes.microbatches is not None:
        return [d for d in fitting if d == wishes.microbatches]
    if pp == 1:
        return fitting
    # More micro-batches than these gain little: the bubble is under 3 % by then.
    return [d for d in fitting if any(d >= a * pp for a in MICROBATCHES_A_STAGE)][: len(MICROBATCHES_A_STAGE) + 2]
