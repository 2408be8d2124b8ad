"""What every benchmark prints: its figures, the machine and its load, versions, and the raw samples."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("sextant-platform", "fastapi", "uvicorn", "sqlalchemy", "psycopg", "asyncpg", "celery", "nats-py", "torch")
Bench = Callable[["Report"], None]


class Report:
    """Figures and samples of one run. Units stand at the end of the names: _s, _ms, _mb, _percent, per_second."""

    def __init__(self, name: str, *, quick: bool, options: frozenset[str] = frozenset()) -> None:
        """`options` are those of the benchmark's own OPTIONS that were given."""
        self.name = name
        self.quick = quick
        self.options = options
        self.figures: dict[str, float] = {}
        self.samples: dict[str, list[float]] = {}
        self.notes: list[str] = []
        self._load = os.getloadavg()
        self._ticks = ticks()

    def figure(self, key: str, value: float) -> None:
        """One of the keys that the benchmark is known for."""
        self.figures[key] = round(value, 4)

    def sample(self, key: str, values: Sequence[float]) -> None:
        """Raw measurements."""
        self.samples[key] = [round(value, 6) for value in values]

    def note(self, text: str) -> None:
        """What a reader has to know to judge the figures."""
        self.notes.append(text)

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        sys.stderr.write(f"{self.name}: {text}\n")

    def print(self, *, as_json: bool) -> None:
        """The table, and the JSON line."""
        flush, stolen = flush_ms(), stolen_percent(self._ticks)
        sys.stdout.write(f"{self.name}{' (quick)' if self.quick else ''}\n")
        width = max(map(len, self.figures), default=0)
        for key, value in self.figures.items():
            sys.stdout.write(f"  {key:<{width}}{value:>12.4g}\n")
        for note in self.notes:
            sys.stdout.write(f"  note: {note}\n")
        state = f"load {self._load[0]:.2f} before, {stolen:.1f} % stolen; fdatasync p50 {flush:.2f} ms"
        sys.stdout.write(f"  machine: {machine()}; {state}\n")
        if as_json:
            body: dict[str, Any] = {
                "bench": self.name,
                **{key: None if math.isnan(value) else value for key, value in self.figures.items()},
                "quick": self.quick,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": machine(),
                "load_average": [round(x, 2) for x in self._load],
                "stolen_percent": round(stolen, 2),
                "fdatasync_p50_ms": round(flush, 3),
                "versions": versions(),
                "notes": self.notes,
                "samples": self.samples,
            }
            sys.stdout.write(json.dumps(body) + "\n")


def machine() -> str:
    """Processor, cores, memory, kernel, Python."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel, python = platform.release().split("-")[0], platform.python_version()
    return f"{model}, {os.cpu_count()} cores, {memory_gb:.0f} GiB, Linux {kernel}, Python {python}"


def ticks() -> list[int]:
    """Time of all processors by use since the machine began, in ticks; see proc_stat(5)."""
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]


def stolen_percent(before: list[int]) -> float:
    """What share of the time that was wanted here since then the host gave to others."""
    user, nice, system, _, _, irq, softirq, stolen, *_ = (a - b for a, b in zip(ticks(), before, strict=True))
    wanted = user + nice + system + irq + softirq + stolen
    return 100.0 * stolen / wanted if wanted else 0.0


def versions() -> dict[str, str]:
    """The packages that bear on the figures."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def flush_ms(times: int = 50) -> float:
    """The median time of a durable 8 KiB write: what a commit costs at least."""
    taken = []
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        for _ in range(times):
            os.pwrite(file.fileno(), b"x" * 8192, 0)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(1000 * (time.perf_counter() - began))
    return statistics.median(taken)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the sorted values lies."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
