"""Whether a model can be run by a plan: what cannot be split right is refused, with the nearest plan that can."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from sextant_parallel.runtime import convolution, linear
from sextant_parallel.runtime.chain import Chain, Rule, rules_of, sequence_of, stage_ranges
from sextant_planner.plan import ParallelPlan, Schedule
from sextant_planner.record import PlanningError

WITHOUT_STAGES: dict[str, Any] = {
    "pp": 1,
    "virtual_stages": 1,
    "stages": (),
    "schedule": Schedule.ONE_F_ONE_B,
    "microbatches": 1,
}


def require_runnable(chain: Chain, plan: ParallelPlan) -> None:
    """Raises PlanningError that names the block, and the nearest plan which works where there is one."""
    try:
        _require(chain, plan)
    except PlanningError as error:
        nearest = _workable(chain, error.nearest)
        if nearest is None:
            raise
        message = f"{error}; the nearest plan that works: {nearest.describe()}"
        raise PlanningError(message, field=error.field, nearest=nearest) from None


def _workable(chain: Chain, nearest: object) -> ParallelPlan | None:
    """Go from one refused plan to what it says is nearest until one is not refused."""
    for _ in range(8):
        if not isinstance(nearest, ParallelPlan):
            return None
        try:
            _require(chain, nearest)
        except PlanningError as error:
            nearest = error.nearest
        else:
            return nearest
    return None


def _require(chain: Chain, plan: ParallelPlan) -> None:
    shares_of(plan, plan.global_batch)
    _pipeline(chain, plan)
    if plan.tp > 1:
        _tensor(chain, plan)
    if plan.cp > 1:
        _context(chain, plan)
    if plan.sequence_parallel and plan.tp > 1:
        _sequence(chain, plan)
    _recompute(chain, plan)
    if plan.compile:
        _compile(plan)


def _compile(plan: ParallelPlan) -> None:
    if plan.schedule is Schedule.ZERO_BUBBLE and plan.pp > 1:
        raise _refused("torch cannot compile under zero-bubble schedules", "compile", plan, compile=False)
    names = (
        (os.environ.get("CC"), "gcc", "clang", "cc") if torch.cuda.is_available() else (os.environ.get("CXX"), "g++")
    )
    if not any(shutil.which(name) for name in names if name):
        message = f"torch.compile needs a compiler on every node, and {names[1]} is not installed on this one"
        raise _refused(message, "compile", plan, compile=False)


def _pipeline(chain: Chain, plan: ParallelPlan) -> None:
    if plan.pp == 1:
        return
    if not chain.divisible:
        name = type(chain.model).__name__
        message = f"{name} is no chain of blocks, so it cannot be cut into stages"
        raise _refused(message, "pp", plan, **WITHOUT_STAGES, dp_replicate=plan.dp_replicate * plan.pp)
    stage_ranges(plan, len(chain.blocks))
    if plan.schedule is Schedule.ZERO_BUBBLE and plan.dp_shard > 1:
        # Tried with torch 2.13: gradients of some stages are lost without a word.
        message = "torch loses sharded gradients under zero-bubble schedules"
        raise _refused(message, "schedule", plan, schedule=Schedule.INTERLEAVED)
    if plan.schedule is Schedule.ZERO_BUBBLE and any(plan.recompute):
        message = "recomputation cannot be parted into the two backward passes of a zero-bubble schedule"
        raise _refused(message, "recompute", plan, recompute=())


def _tensor(chain: Chain, plan: ParallelPlan) -> None:
    ruled = {name: block for name, block in chain.blocks.items() if rules_of(block)}
    if not ruled:
        message = f"no block of {type(chain.model).__name__} has a rule for tensor parallelism"
        spare = plan.dp_replicate * plan.tp
        raise _refused(message, "tp", plan, tp=1, dp_replicate=spare, sequence_parallel=False)
    for name, block in ruled.items():
        rules = rules_of(block)
        if fault := linear.unsplittable(block, rules, plan.tp) or convolution.unsplittable(block, rules, plan.tp):
            spare = plan.dp_replicate * plan.tp
            raise _refused(f"{name}.{fault}", "tp", plan, tp=1, dp_replicate=spare, sequence_parallel=False)
        limit = int(getattr(block, "tensor_limit", 1))
        if limit % plan.tp:
            near = _near_divisor(limit, plan.tp)
            message = f"block {name!r} has {limit} parts to share out, which {plan.tp} ranks do not divide"
            spare = plan.dp_replicate * plan.tp // near if plan.tp % near == 0 else plan.dp_replicate
            parts = plan.sequence_parallel and near > 1
            raise _refused(message, "tp", plan, tp=near, dp_replicate=spare, sequence_parallel=parts)


def _context(chain: Chain, plan: ParallelPlan) -> None:
    for name, block in chain.blocks.items():
        if sequence_of(block) not in ("split", "tokens", "whole"):
            message = f"block {name!r} says nothing of a sequence, so it cannot be split along one"
            raise _refused(message, "cp", plan, cp=1, dp_replicate=plan.dp_replicate * plan.cp)
        if sequence_of(block) == "split" and not getattr(block, "attention_names", ()):
            message = f"block {name!r} does not name its attention, so its sequence cannot be split"
            raise _refused(message, "cp", plan, cp=1, dp_replicate=plan.dp_replicate * plan.cp)


def _sequence(chain: Chain, plan: ParallelPlan) -> None:
    if not any(sequence_of(block) == "split" for block in chain.blocks.values()):
        message = f"no block of {type(chain.model).__name__} has a sequence"
        raise _refused(message, "sequence_parallel", plan, sequence_parallel=False)
    for name, block in chain.blocks.items():
        if sequence_of(block) == "split" and not rules_of(block):
            message = f"{name} works on the sequence, and no rule says how it is split"
            raise _refused(message, "sequence_parallel", plan, sequence_parallel=False)
        if sequence_of(block) == "split" and (free := _without_rule(block)):
            # Each rank would have the gradient of its part of the sequence alone.
            message = f"{name}.{free} works on the sequence, and no rule says how it is split"
            raise _refused(message, "sequence_parallel", plan, sequence_parallel=False)


def _without_rule(block: nn.Module) -> str | None:
    """A parameter that no rule is about."""
    ruled = [path for path, rule in rules_of(block).items() if rule is not Rule.SHARED_INPUT]
    names = (name for name, _ in block.named_parameters())
    return next((name for name in names if not any(name.startswith(f"{path}.") for path in ruled)), None)


def _recompute(chain: Chain, plan: ParallelPlan) -> None:
    if plan.recompute and len(plan.recompute) != len(chain.blocks):
        message = f"recompute has {len(plan.recompute)} entries for {len(chain.blocks)} blocks"
        raise PlanningError(message, field="recompute", nearest=len(chain.blocks))


def shares_of(plan: ParallelPlan, rows: int) -> tuple[int, ...]:
    """Samples of each data-parallel rank in a global batch of `rows`, in the proportions of the plan.

    Raises PlanningError where one has fewer than its micro-batches, or, in a pipeline, no multiple of them.
    """
    shares = plan.shares
    if rows != plan.global_batch:
        ends = [round(sum(shares[: index + 1]) * rows / plan.global_batch) for index in range(plan.dp)]
        shares = tuple(end - begin for begin, end in zip([0, *ends], ends, strict=False))
    for share in shares:
        if share < plan.microbatches or (plan.pp > 1 and share % plan.microbatches):
            kind = "no multiple of" if plan.pp > 1 else "fewer than"
            message = f"a share of {share} in a batch of {rows} is {kind} {plan.microbatches} micro-batches"
            raise PlanningError(message, field="global_rows", nearest=plan.dp * plan.microbatches)
    return shares


def require_sequence(length: int, plan: ParallelPlan) -> None:
    """Raises PlanningError where a sequence of this length cannot be shared out evenly."""
    parts = plan.cp * (plan.tp if plan.sequence_parallel else 1)
    if length % parts:
        near = length - length % parts or parts
        raise PlanningError(f"a sequence of {length} is no multiple of {parts}", field="sequence", nearest=near)


def _refused(message: str, field: str, plan: ParallelPlan, **changes: Any) -> PlanningError:
    nearest: object = changes[field]
    with suppress(ValueError):
        nearest = ParallelPlan.model_validate({**plan.model_dump(), "batch_shares": (), **changes})
    return PlanningError(message, field=field, nearest=nearest)


def _near_divisor(number: int, wanted: int) -> int:
    """The largest divisor of `number` that is not over `wanted`."""
    return next(value for value in range(min(number, wanted), 0, -1) if number % value == 0)
