"""What became of jobs that note their start and their end in a file, whoever ran them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

CALM_WITHIN_S = 120.0
STILL_S = 20.0
"""Nothing has begun or ended for so long: longer than a visibility timeout and its sweep."""


@dataclass
class Found:
    """Of all schedules together."""

    jobs: int = 0
    faults: int = 0
    lost: int = 0
    doubled: int = 0
    begun_again: int = 0
    recoveries: list[float] = field(default_factory=list)
    """Seconds from a fault to the next start of a job that had begun before it."""
    effects: Counter[str] = field(default_factory=Counter)


def still(work: Path) -> None:
    """Wait until nothing has been noted for some time."""
    began = time.monotonic()
    size, since = -1, began
    while time.monotonic() - began < CALM_WITHIN_S and time.monotonic() - since < STILL_S:
        now = work.stat().st_size if work.exists() else 0
        if now != size:
            size, since = now, time.monotonic()
        time.sleep(0.5)


def judge(work: Path, answered: Collection[str], strikes: Sequence[tuple[float, str]], found: Found) -> None:
    """Add to what was found. Lines of `work` are "start|end KEY WORKER TIME"; strikes are times, and the worker that
    was hit, or nothing where all were.
    """
    starts: dict[str, list[tuple[float, str]]] = defaultdict(list)
    ends: Counter[str] = Counter()
    for line in work.read_text().splitlines() if work.exists() else []:
        word, key, worker, at = line.split()
        if word == "start":
            starts[key].append((float(at), worker))
        else:
            ends[key] += 1
    found.jobs += len(answered)
    found.lost += sum(not ends[key] for key in answered)
    found.doubled += sum(number > 1 for number in ends.values())
    found.begun_again += sum(len(begun) > 1 for begun in starts.values())
    for begun in starts.values():
        for (first, worker), (second, _) in pairwise(begun):
            hit = next((at for at, whose in strikes if first <= at <= second and whose in (worker, "")), None)
            if hit is not None:
                found.recoveries.append(second - hit)
