"""Schedules run every micro-batch once, in an order that works, and take what the literature says."""

from __future__ import annotations

import pytest

from sextant_planner.cost.schedules import BACKWARD, FORWARD, Player, StageCost, at_least, in_flight, order
from sextant_planner.plan import Schedule

ALL = [(Schedule.GPIPE, 1), (Schedule.ONE_F_ONE_B, 1), (Schedule.INTERLEAVED, 2), (Schedule.ZERO_BUBBLE, 3)]


def even(stages: int, *, send: float = 0.0) -> list[StageCost]:
    return [StageCost(forward=1.0, backward=2.0, weight=1.0, parting=0.0, send=send)] * stages


@pytest.mark.parametrize(("schedule", "chunks"), ALL)
@pytest.mark.parametrize("ranks", [2, 4])
def test_every_pass_runs_once_and_backward_after_forward(schedule: Schedule, chunks: int, ranks: int) -> None:
    for rank in range(ranks):
        operations = order(schedule, ranks, rank, chunks, 8)
        assert len(operations) == len(set(operations)) == 2 * chunks * 8
        for chunk in range(chunks):
            for micro in range(8):
                forward, backward = (
                    operations.index((FORWARD, chunk, micro)),
                    operations.index((BACKWARD, chunk, micro)),
                )
                assert forward < backward


@pytest.mark.parametrize("schedule", [Schedule.GPIPE, Schedule.ONE_F_ONE_B])
def test_the_bubble_is_that_of_the_textbook(schedule: Schedule) -> None:
    """(m + p - 1)(f + b), Narayanan et al., SC21, section 2.2."""
    played = Player(even(4), 4, schedule, blocking_sends=False).play(8)
    assert played == pytest.approx((8 + 4 - 1) * 3.0)


def test_interleaving_divides_the_bubble_by_the_chunks() -> None:
    """m v (f + b) + (p - 1)(f + b), with passes of a chunk: SC21, section 2.2."""
    played = Player(even(8), 4, Schedule.INTERLEAVED, blocking_sends=False).play(8)
    assert played == pytest.approx(2 * 8 * 3.0 + 3 * 3.0)


def test_weight_gradients_fill_the_bubble() -> None:
    filled = Player(even(8), 4, Schedule.ZERO_BUBBLE, blocking_sends=False).play(8)
    assert 48.0 <= filled < Player(even(8), 4, Schedule.INTERLEAVED, blocking_sends=False).play(8)


def test_the_slowest_stage_sets_the_pace() -> None:
    stages = [*even(3), StageCost(2.0, 4.0, 2.0, 0.0, 0.0)]
    played = Player(stages, 4, Schedule.ONE_F_ONE_B, blocking_sends=False).play(16)
    assert played == pytest.approx(16 * 6.0 + 3 * 3.0)
    assert at_least(stages, 4, 16) <= played


@pytest.mark.parametrize("blocking", [True, False])
def test_sends_cost_time(blocking: bool) -> None:
    free = Player(even(4), 4, Schedule.ONE_F_ONE_B, blocking_sends=blocking).play(8)
    assert Player(even(4, send=0.5), 4, Schedule.ONE_F_ONE_B, blocking_sends=blocking).play(8) > free


def test_micro_batches_in_flight() -> None:
    """1F1B holds p - r, GPipe all; interleaving holds more by (p - 1) / (p v): Korthikanti et al., section 4.2.3."""
    assert [in_flight(Schedule.ONE_F_ONE_B, 4, rank, 1, 16) for rank in range(4)] == [4, 3, 2, 1]
    assert in_flight(Schedule.GPIPE, 4, 3, 1, 32) == 32
    assert in_flight(Schedule.INTERLEAVED, 4, 0, 2, 16) == pytest.approx(4 * (1 + 3 / 8))
