"""What workers note of their work, in one file that all append to: what was done under which fence, and when."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

MARGIN_S = 0.75
"""How long a worker that comes to itself again may go on before it sees that its lease has run out: it looks every
quarter of a second, and the machine is busy.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """Some work was done: by this process, under this fence of this job, at this time of the machine's clocks."""

    job_id: UUID
    fence: int
    pid: int
    at: float
    """Seconds of the monotonic clock, which all processes share."""
    wall: float
    """What the process took for the time of day."""


class Ledger:
    """Appends; one write a line, so that lines of several processes do not mix and a kill loses none."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(self, job_id: str, fence: int) -> None:
        """Work is being done."""
        line = f"{job_id} {fence} {os.getpid()} {time.monotonic():.6f} {time.time():.3f}\n"
        os.write(self._descriptor, line.encode())


def read(path: Path) -> list[Entry]:
    """All entries, in the order in which they were made."""
    if not path.exists():
        return []
    lines = (line.split() for line in path.read_text().splitlines())
    return [Entry(UUID(job), int(fence), int(pid), float(at), float(wall)) for job, fence, pid, at, wall in lines]


def overlaps(entries: Iterable[Entry], margin_s: float = MARGIN_S) -> Iterator[str]:
    """I17: work under a fence after another fence's work had begun, but for what is done within the margin of waking.

    A frozen process does no work; its first entry after the next fence's tells when it woke.
    """
    of_job: dict[UUID, list[Entry]] = defaultdict(list)
    for entry in entries:
        of_job[entry.job_id].append(entry)
    for job_id, noted in of_job.items():
        began = {fence: min(e.at for e in noted if e.fence == fence) for fence in {e.fence for e in noted}}
        for fence in began:
            later = min((at for other, at in began.items() if other > fence), default=None)
            stale = [e.at for e in noted if e.fence == fence and later is not None and e.at > later]
            if stale and max(stale) - min(stale) > margin_s:
                yield f"I17: fence {fence} of job {job_id} worked {max(stale) - min(stale):.2f} s beside the next"
