"""Stage boundaries: the exact split of a chain of blocks that makes the slowest stage as fast as can be."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

Cost = Callable[[int, int, int], float]
"""(first block, end block, stage) -> seconds, or infinity where the stage does not fit. Grows with the range."""


def split(blocks: int, stages: int, cost: Cost) -> tuple[tuple[int, int], ...] | None:
    """Ranges [first, end) of each stage, none empty; None where no split fits.

    Dynamic programming over (stage, end): the best bottleneck of the first `stage` stages over the first `end` blocks.
    A longer last stage costs more, so that the scan for its first block ends once it alone is over the best so far:
    about O(blocks^2) in all, for stages of about equal length.
    """
    before = [inf] * (blocks + 1)
    before[0] = 0.0
    boundaries: list[list[int]] = []
    for stage in range(stages):
        now = [inf] * (blocks + 1)
        chosen = [0] * (blocks + 1)
        for end in range(stage + 1, blocks - (stages - 1 - stage) + 1):
            now[end], chosen[end] = _best(before, cost, stage, end)
        boundaries.append(chosen)
        before = now
    if before[blocks] == inf:
        return None
    ranges: list[tuple[int, int]] = []
    end = blocks
    for stage in reversed(range(stages)):
        first = boundaries[stage][end]
        ranges.append((first, end))
        end = first
    return tuple(reversed(ranges))


def _best(before: list[float], cost: Cost, stage: int, end: int) -> tuple[float, int]:
    """The first block of the last stage that gives the least bottleneck, and that bottleneck."""
    best, chosen = inf, 0
    for first in range(end - 1, stage - 1, -1) if stage else (0,):
        last = cost(first, end, stage)
        if last >= best:
            break
        bottleneck = max(before[first], last)
        if bottleneck < best:
            best, chosen = bottleneck, first
    return best, chosen
