"""Stage boundaries are the best there are."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import inf

from hypothesis import given
from hypothesis import strategies as st

from sextant_planner.search.partition import split

Lengths = list[int]


def brute_force(lengths: Lengths, speeds: list[int], room: int) -> float:
    """The least bottleneck over every split."""
    best = inf
    for cuts in combinations(range(1, len(lengths)), len(speeds) - 1):
        ranges = list(pairwise((0, *cuts, len(lengths))))
        if all(end - first <= room for first, end in ranges):
            best = min(best, max(sum(lengths[a:b]) / speed for (a, b), speed in zip(ranges, speeds, strict=True)))
    return best


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=9),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.integers(1, 9),
)
def test_the_slowest_stage_is_as_fast_as_can_be(lengths: Lengths, speeds: list[int], room: int) -> None:
    def cost(first: int, end: int, stage: int) -> float:
        return sum(lengths[first:end]) / speeds[stage] if end - first <= room else inf

    ranges = split(len(lengths), len(speeds), cost) if len(speeds) <= len(lengths) else None
    best = brute_force(lengths, speeds, room)
    if ranges is None:
        assert best == inf
        return
    assert [first for first, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[-1][1] == len(lengths)
    assert all(first < end for first, end in ranges)
    assert max(cost(*bounds, stage) for stage, bounds in enumerate(ranges)) == best
