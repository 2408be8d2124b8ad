"""What became of jobs that note their start and their end in a file, whoever ran them."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.report import Report, percentile

CALM_WITHIN_S = 120.0
STILL_S = 20.0
"""Nothing has begun or ended for so long: longer than a visibility timeout and its sweep."""


@dataclass
class Execution:
    """One start of a job, and its end where it has one; times are those of `time.time`."""

    worker: str
    began: float
    ended: float | None = None


@dataclass
class Found:
    """Of all schedules together."""

    jobs: int = 0
    seeds: int = 0
    faults: int = 0
    lost: set[str] = field(default_factory=set)
    flushed: set[str] = field(default_factory=set)
    """What the broker was seen to hold just before it was emptied, each time."""
    left: set[str] = field(default_factory=set)
    """What it still held when all was calm."""
    completed_twice: int = 0
    overlapping: int = 0
    """Jobs that were begun while they were at work, and ended by the first all the same."""
    hit: int = 0
    """Executions that have no end, whose worker was struck."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from there to the next start of the job."""
    effects: Counter[str] = field(default_factory=Counter)

    def tell(self, report: Report, name: str) -> None:
        """Under the keys of the platform's own run, each behind the name, and where what was lost has gone."""
        recovery = percentile(self.recoveries, 0.99) if self.recoveries else float("nan")
        report.figure(f"{name}_jobs", self.jobs)
        report.figure(f"{name}_seeds", self.seeds)
        report.figure(f"{name}_faults", self.faults)
        report.figure(f"{name}_lost", len(self.lost))
        report.figure(f"{name}_completed_twice", self.completed_twice)
        report.figure(f"{name}_invariant_violations", len(self.lost) + self.completed_twice + self.overlapping)
        report.figure(f"{name}_recovery_p99_s", recovery)
        report.figure(f"{name}_hit", self.hit)
        report.figure(f"{name}_recovered", len(self.recoveries))
        report.figure(f"{name}_lost_to_flush", len(self.lost & self.flushed))
        report.figure(f"{name}_lost_in_queue", len(self.lost & self.left))
        report.sample(f"{name}_recovery_s", self.recoveries)
        report.note(f"{name}: {dict(self.effects)}")


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
    executions = _read(work)
    found.jobs += len(answered)
    found.lost |= {key for key in answered if not _ends(executions[key])}
    for each in executions.values():
        found.completed_twice += _ends(each) > 1
        found.overlapping += any(
            one.ended is not None and one.began < other.began < one.ended for one in each for other in each
        )
        for index, execution in enumerate(each):
            if execution.ended is not None:
                continue
            nexts = [other.began for other in each[index + 1 :]]
            until = min(nexts, default=float("inf"))
            hits = [at for at, whose in strikes if execution.began <= at <= until and whose in (execution.worker, "")]
            found.hit += bool(hits)
            if hits and nexts:
                found.recoveries.append(until - hits[0])


def _ends(executions: list[Execution]) -> int:
    return sum(each.ended is not None for each in executions)


def _read(work: Path) -> dict[str, list[Execution]]:
    """Those of each job, in the order of their starts."""
    executions: dict[str, list[Execution]] = defaultdict(list)
    for line in work.read_text().splitlines() if work.exists() else []:
        word, key, worker, at = line.split()
        if word == "start":
            executions[key].append(Execution(worker, float(at)))
        else:
            last = next(each for each in reversed(executions[key]) if each.worker == worker and each.ended is None)
            last.ended = float(at)
    return executions
