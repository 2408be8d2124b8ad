"""The processes of this machine as /proc shows them: who belongs together, and what they use."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Process:
    """One living process: its group and session, and the seconds of a core that it and those it waited for used."""

    pid: int
    group: int
    session: int
    cpu_s: float


def of_session(session: int) -> list[Process]:
    """The living processes of a session."""
    return [process for process in _all() if process.session == session]


def of_group(group: int) -> list[Process]:
    """The living processes of a group."""
    return [process for process in _all() if process.group == group]


def end(processes: Iterable[Process]) -> None:
    """Kill the whole groups that these belong to."""
    for group in {process.group for process in processes}:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            continue


def memory(pid: int) -> int:
    """Bytes that a process holds of its own: what it shares counts by its share. 0 for one that has ended."""
    try:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    found = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines[1:])}
    return 1024 * sum(found.get(name, 0) for name in ("Pss_Anon", "Pss_Shmem", "SwapPss"))


def _all() -> Iterator[Process]:
    for name in os.listdir(PROC):
        if name.isdigit() and (process := _read(int(name))):
            yield process


def _read(pid: int) -> Process | None:
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name stands in brackets, and may hold any character.
    fields = text[text.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        return None
    return Process(pid, int(fields[2]), int(fields[3]), sum(map(int, fields[11:15])) / TICKS)
