"""A plan that does not fit after all: the next one is made for less memory, until one does."""

from __future__ import annotations

import resource
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from tests.bench import rebalance_rank
from tests.bench.live_memory import return_memory_at_once
from tests.bench.ranks import run
from tests.bench.rebalance_rank import TOKENS
from torch import Tensor

from sextant_parallel import DynamicParallel, Training
from sextant_parallel.elastic.shortage import OutOfMemory, ran_out
from sextant_planner.record import PlanningError

BATCH, STEPS = 512, 2
THREADS_BYTES = 160_000_000
"""Address space of the threads that save a checkpoint."""
SAMPLE = torch.zeros(2, TOKENS, dtype=torch.int64)


def batches(step: int, rows: slice) -> tuple[Tensor, Tensor]:
    tokens = (torch.arange(BATCH)[:, None] + torch.arange(TOKENS + 1) + step) % 128
    return tokens[rows, :-1].contiguous(), tokens[rows, 1:].contiguous()


TRAINING = Training(rebalance_rank.make, batches, rebalance_rank.loss, rebalance_rank.optimizer, STEPS)


def planned(cache: Path) -> DynamicParallel:
    return DynamicParallel(
        {"auto_tune": True, "global_batch": BATCH, "microbatches": 1},
        model=rebalance_rank.make(),
        sample=SAMPLE,
        cluster=rebalance_rank.cluster(1),
        cache=cache,
    )


def attempt(directory: str, room: float | None) -> dict[int, float] | float:
    """One attempt, in a process that gets no more than `room` bytes on top of what it has.

    The losses, or what the plan was predicted to take where memory ran out.
    """
    # What glibc keeps for later counts as taken, and is as much as the model needs.
    return_memory_at_once()
    there = Path(directory)
    dynamic = planned(there)
    if room is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + int(room) + THREADS_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        return dynamic.fit(TRAINING, there).losses
    except OutOfMemory as error:
        return error.candidate.prediction.memory.total


def test_a_run_without_enough_memory_is_planned_anew_until_it_has(tmp_path: Path) -> None:
    for name in ("whole", "squeezed"):
        (tmp_path / name).mkdir()
    whole = run(1, attempt, str(tmp_path / "whole"), None)[0]
    room = 0.5 * planned(tmp_path / "whole").optimize().prediction.memory.total
    ran_out_at: list[float] = []
    while not isinstance(found := run(1, attempt, str(tmp_path / "squeezed"), room)[0], dict):
        ran_out_at.append(found)
    assert ran_out_at, "the first plan needs what it was predicted to"
    assert all(after <= 0.8 * before for before, after in pairwise(ran_out_at))
    assert found == pytest.approx(whole, rel=1e-5)
    last = planned(tmp_path / "squeezed").optimize()
    assert last.prediction.memory.total < 0.8 * ran_out_at[-1]
    assert any(note.startswith("memory ran out in an earlier run") for note in last.decision.notes)


def _run_out(dynamic: DynamicParallel) -> None:
    """Have an allocation fail."""
    rebalancer = dynamic.rebalancer(dynamic.optimize())
    plan = rebalancer.optimized.plan.describe()
    with pytest.raises(OutOfMemory, match="memory ran out") as told, dynamic.minding_memory(rebalancer):
        torch.empty(1 << 60, dtype=torch.uint8)
    assert plan in str(told.value)


def _run_out_for_ever(cache: Path) -> None:
    for _ in range(50):
        _run_out(planned(cache))


def test_where_nothing_fits_any_more_the_plan_is_refused(tmp_path: Path) -> None:
    _run_out(planned(tmp_path))
    _run_out(planned(tmp_path))
    with pytest.raises(PlanningError, match="does not fit") as refused:
        _run_out_for_ever(tmp_path)
    assert refused.value.field == "memory"
    # What was found out holds for this model alone.
    other, sample = torch.nn.Linear(4, 4), torch.zeros(2, 4)
    DynamicParallel({"global_batch": 2, "auto_tune": True}, model=other, sample=sample, cache=tmp_path).optimize()


def test_other_errors_are_not_taken_for_a_lack_of_memory(tmp_path: Path) -> None:
    dynamic = planned(tmp_path)
    rebalancer = dynamic.rebalancer(dynamic.optimize())
    with pytest.raises(RuntimeError, match="shapes"), dynamic.minding_memory(rebalancer):
        torch.ones(2, 3) @ torch.ones(2, 3)
    assert dynamic.optimize().plan == rebalancer.optimized.plan
    assert not dynamic.optimize().decision.notes


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory.")], ids=repr)
def test_what_python_and_the_gpu_say_is_known(error: BaseException) -> None:
    assert ran_out(error)
