"""Completes a plan of bare degrees: stage boundaries, blocks that are computed again, and shares of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from sextant_planner.cost.memory import MemoryCosts
from sextant_planner.cost.step import StepCosts
from sextant_planner.plan import ParallelPlan
from sextant_planner.search.partition import split


def complete(plan: ParallelPlan, costs: StepCosts, *, may_recompute: bool, reserve: float) -> ParallelPlan | None:
    """The best stages, then the fewest recomputed blocks that fit; None where nothing fits.

    `reserve` is the share of a device's memory that is left free.
    """
    limit = min(device.memory_bytes for device in costs.cluster.devices) * (1 - reserve)
    if not costs.cluster.uniform:
        plan = _with_fair_shares(plan, costs)
    staged = _staged(plan, costs, [1.0] * len(costs.model.blocks))
    if staged is None:
        return None
    fitted = _fitted(staged, costs, limit) if may_recompute else staged
    if fitted is not None and any(fitted.recompute) and plan.pp > 1:
        # What is computed again takes longer: the boundaries move.
        factors = [4 / 3 if again else 1.0 for again in fitted.recompute]
        moved = _staged(fitted.model_copy(update={"recompute": ()}), costs, factors)
        again = _fitted(moved, costs, limit) if moved else None
        if again is not None and costs.bound(again) < costs.bound(fitted):
            fitted = again
    if fitted is None or costs.memory(fitted).total > limit:
        return None
    return fitted


def _staged(plan: ParallelPlan, costs: StepCosts, factors: Sequence[float]) -> ParallelPlan | None:
    blocks = len(costs.model.blocks)
    parts = plan.pp * plan.virtual_stages
    if plan.pp == 1:
        return plan
    samples = max(plan.shares) / plan.microbatches
    inner = plan.dp * plan.tp * plan.cp
    by_device: dict[int, list[float]] = {}
    sums: list[list[float]] = []
    for rank in range(plan.pp):
        first = rank * inner
        device = costs.cluster.layout[first]
        if device not in by_device:
            by_device[device] = [
                _seconds(costs, plan, index, samples, device) * factors[index] for index in range(blocks)
            ]
        speed = min(costs.cluster.speed(member) for member in range(first, first + inner))
        sums.append([0.0, *accumulate(seconds / speed for seconds in by_device[device])])

    def cost(begin: int, end: int, part: int) -> float:
        prefix = sums[part % plan.pp]
        return prefix[end] - prefix[begin]

    stages = split(blocks, parts, cost)
    return None if stages is None else plan.model_copy(update={"stages": stages})


def _seconds(costs: StepCosts, plan: ParallelPlan, index: int, samples: float, device: int) -> float:
    passes = costs.block_passes(plan, index, samples=samples, device=device)
    return (
        passes.forward
        + passes.backward
        + passes.forward_comm
        + passes.backward_comm
        + sum(costs.statistics(plan, index))
    )


def _fitted(plan: ParallelPlan, costs: StepCosts, limit: float) -> ParallelPlan | None:
    """With recomputation in as few blocks as it takes, those first that save most bytes a second of work."""
    flags = [False] * len(costs.model.blocks)
    samples = max(plan.shares) / plan.microbatches
    device = costs.cluster.layout[0]
    for rank in range(plan.pp):
        chunks = plan.chunks(rank, len(flags))
        order = sorted(
            (index for chunk in chunks for index in chunk),
            key=lambda index: -_worth(costs, plan, index, samples, device),
        )
        if _memory(plan, costs, flags, rank, chunks, samples) <= limit:
            continue
        low, high = 1, len(order)
        if _memory(plan, costs, _flagged(flags, order), rank, chunks, samples) > limit:
            return None
        while low < high:
            middle = (low + high) // 2
            if _memory(plan, costs, _flagged(flags, order[:middle]), rank, chunks, samples) <= limit:
                high = middle
            else:
                low = middle + 1
        flags = _flagged(flags, order[:low])
    return plan.model_copy(update={"recompute": tuple(flags) if any(flags) else ()})


def _worth(costs: StepCosts, plan: ParallelPlan, index: int, samples: float, device: int) -> float:
    block = costs.model.blocks[index]
    bare = plan.model_copy(update={"recompute": ()})
    again = costs.block_passes(bare, index, samples=samples, device=device).forward
    return max(0.0, block.activation_bytes - block.output_bytes) / max(again, 1e-12)


def _memory(
    plan: ParallelPlan, costs: StepCosts, flags: list[bool], rank: int, chunks: list[range], samples: float
) -> float:
    trial = plan.model_copy(update={"recompute": tuple(flags)})
    return MemoryCosts(costs.model, trial).of_rank(rank, chunks, samples).total


def _flagged(flags: list[bool], more: Sequence[int]) -> list[bool]:
    chosen = set(more)
    return [flag or index in chosen for index, flag in enumerate(flags)]


def _with_fair_shares(plan: ParallelPlan, costs: StepCosts) -> ParallelPlan:
    """Batch shares in proportion to the speed of each data-parallel rank, in whole micro-batches of samples."""
    inner = plan.tp * plan.cp
    speeds = []
    for replica in range(plan.dp):
        members = [(rank * plan.dp + replica) * inner + member for rank in range(plan.pp) for member in range(inner)]
        # A pipeline whose stages follow the speeds goes at their mean; without one, the slowest member decides.
        rates = [costs.cluster.rate(member, plan.precision) for member in members]
        speeds.append(sum(rates) / len(rates) if plan.pp > 1 else min(rates))
    if len(set(speeds)) == 1 or plan.dp == 1:
        return plan
    grain = plan.microbatches if plan.pp > 1 or plan.microbatches > 1 else 1
    units = plan.global_batch // grain
    if units < plan.dp or plan.global_batch % grain:
        return plan
    shares = _apportion(units, speeds)
    return plan.model_copy(update={"batch_shares": tuple(share * grain for share in shares)})


def _apportion(units: int, weights: Sequence[float]) -> list[int]:
    """Whole units in proportion to the weights, one each at least, by largest remainder."""
    total = sum(weights)
    exact = [units * weight / total for weight in weights]
    shares = [max(1, int(value)) for value in exact]
    while sum(shares) < units:
        index = max(range(len(shares)), key=lambda i: exact[i] - shares[i])
        shares[index] += 1
    while sum(shares) > units:
        index = max((i for i in range(len(shares)) if shares[i] > 1), key=lambda i: shares[i] - exact[i])
        shares[index] -= 1
    return shares
