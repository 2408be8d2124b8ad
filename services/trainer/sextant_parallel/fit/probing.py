"""A short probe: the plans that look best run for a few steps each, and what they take decides between them."""

from __future__ import annotations

import gc
import statistics
import time

import torch
import torch.distributed as dist

from sextant_parallel.elastic.shortage import OutOfMemory, ran_out
from sextant_parallel.fit.loop import Training
from sextant_parallel.optimized import OptimizedPlan
from sextant_parallel.runtime import apply
from sextant_parallel.world import barrier
from sextant_planner.plan import ParallelPlan
from sextant_planner.search.engine import Candidate

STEPS = 4
"""Steps that count; one before them warms up."""


def probe(optimized: OptimizedPlan, training: Training, number: int) -> OptimizedPlan:
    """The same decision, its first `number` candidates in the order of the seconds that their steps took here.

    Each compiled plan is tried as it would run otherwise too. Every rank calls it, and gets the same. The run is not
    touched: each plan trains a model of its own. Raises OutOfMemory where one does not fit.
    """
    choice = optimized.decision.choice
    tried = [
        candidate.model_copy(update={"measured_s": _step_s(candidate, training)})
        for each in choice.candidates[:number]
        for candidate in ([each, _not_compiled(each)] if each.plan.compile else [each])
    ]
    tried.sort(key=lambda candidate: candidate.measured_s or 0.0)
    ordered = choice.model_copy(update={"candidates": (*tried, *choice.candidates[number:])})
    return OptimizedPlan(optimized.decision.model_copy(update={"choice": ordered}))


def _not_compiled(candidate: Candidate) -> Candidate:
    return candidate.model_copy(update={"plan": candidate.plan.model_copy(update={"compile": False})})


def _step_s(candidate: Candidate, training: Training) -> float:
    """The median of a few steps, of the slowest rank."""
    try:
        with torch.random.fork_rng():
            seconds = _steps_s(candidate.plan, training)
    except (RuntimeError, MemoryError) as error:
        if ran_out(error):
            raise OutOfMemory(candidate) from error
        raise
    gc.collect()
    if candidate.plan.compile:
        # What was compiled for one plan is no use to the next, and counts against its limits.
        torch.compiler.reset()
    slowest = torch.tensor(statistics.median(seconds[1:]), device="cuda" if torch.cuda.is_available() else "cpu")
    if dist.is_initialized():
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return float(slowest)


def _steps_s(plan: ParallelPlan, training: Training) -> list[float]:
    runtime = apply(
        training.model, plan, optimizer=training.optimizer, loss=training.loss, clip_norm=training.clip_norm
    )
    seconds = []
    for step in range(1 + STEPS):
        barrier()
        began = time.perf_counter()
        inputs, targets = training.batches(step, runtime.rows)
        float(runtime.train_step(inputs, targets))
        seconds.append(time.perf_counter() - began)
    return seconds
