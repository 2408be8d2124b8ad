"""Slow and lost ranks are seen by all, by name."""

from __future__ import annotations

import time

import torch.distributed as dist
from tests.bench.ranks import run

from sextant_parallel.elastic.culprit import Attendance
from sextant_parallel.elastic.monitor import Monitor
from sextant_planner.rebalancing import Policy, Trigger, Window, trigger


def measure() -> list[Window]:
    monitor = Monitor(work=4.0, every=4)
    for _ in range(13):
        with monitor.computing():
            time.sleep(0.03 if dist.get_rank() == 1 else 0.01)
        dist.barrier()
        monitor.ended_step()
    return monitor.windows


def test_a_slow_rank_is_seen_alike_by_all_and_triggers_a_change() -> None:
    first, second = run(2, measure)
    assert first == second
    assert len(first) == 3
    assert all(window.speeds[0] == 1.0 and window.speeds[1] < 0.6 for window in first)
    assert trigger(first, first[-1].step_s, Policy()) is Trigger.IMBALANCE


def attend() -> str:
    rank = dist.get_rank()
    store = dist.distributed_c10d._get_default_store()
    attendance = Attendance(store, rank, 3, f"host{rank}")
    attendance.note(1)
    dist.barrier()
    if rank != 2:
        attendance.note(2)
    dist.barrier()
    return attendance.accuse()


def test_the_rank_that_the_others_wait_for_is_named() -> None:
    for told in run(3, attend):
        assert told.startswith("rank 2 on host2 was last seen in step 1")
        assert told.endswith("the others are in step 2")


def stay_away() -> str:
    rank = dist.get_rank()
    store = dist.distributed_c10d._get_default_store()
    attendance = Attendance(store, rank, 2, "host")
    if rank == 0:
        attendance.note(1)
    dist.barrier()
    return attendance.accuse()


def test_a_rank_that_never_began_is_named() -> None:
    assert run(2, stay_away)[0] == "rank 1 never began a step; 1 of 2 ranks have not"
