"""Holds the processes of an attempt to its limits: looks now and then what they use, and ends those that use more."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from pathlib import Path

import structlog

from sextant_shared.contracts.limits import Limits
from sextant_shared.execution import process_table
from sextant_shared.execution.launching import Running
from sextant_shared.execution.workbench import Failed

log = structlog.get_logger(__name__)
LOOK_EVERY_S = 0.25
DISK_EVERY_S = 1.0
MIB = 1 << 20


class Quota:
    """Watches one attempt while it is entered."""

    def __init__(self, limits: Limits, work: Running, directory: Path) -> None:
        self._limits, self._work, self._directory = limits, work, directory
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._disk_due = 0.0
        self._cpu_s = 0.0
        self.breach: Failed | None = None
        """Why the work was ended, if it was."""

    def __enter__(self) -> Quota:
        if self._limits.any:
            run = copy_context().run
            self._thread = threading.Thread(target=run, args=(self._watch,), name="quota", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread:
            self._thread.join()
            # What was written last may have been too much.
            if self.breach is None:
                self.breach = self._of_disk()

    def _watch(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            found = next(self._breaches(), None)
            if found is not None:
                self.breach = found
                log.warning("attempt.over_limit", reason=found.message)
                self._work.kill()
                return

    def _breaches(self) -> Iterator[Failed]:
        limits, processes = self._limits, self._work.processes()
        self._cpu_s = max(self._cpu_s, sum(process.cpu_s for process in processes))
        if limits.processes and len(processes) > limits.processes:
            yield _over("processes", f"has {len(processes)} processes", f"{limits.processes}")
        if limits.cpu_s and self._cpu_s > limits.cpu_s:
            yield _over("cpu_s", f"used {self._cpu_s:.0f} s of processor time", f"{limits.cpu_s} s")
        if limits.memory_mb:
            used = sum(process_table.memory(process.pid) for process in processes)
            if used > limits.memory_mb * MIB:
                yield _over("memory_mb", f"used {used // MIB} MiB of memory", f"{limits.memory_mb} MiB")
        if (now := time.monotonic()) >= self._disk_due:
            found = self._of_disk()
            # A tree of many files is not looked at all the time.
            self._disk_due = now + max(DISK_EVERY_S, 10 * (time.monotonic() - now))
            if found:
                yield found

    def _of_disk(self) -> Failed | None:
        limit = self._limits.disk_mb
        if not limit:
            return None
        used = size_of(self._directory)
        # A file that has just reached the limit was cut off there by the kernel.
        return _over("disk_mb", f"wrote {used // MIB} MiB", f"{limit} MiB") if used >= limit * MIB else None


def size_of(directory: Path) -> int:
    """Bytes on the disk of all below a directory; links are not followed."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return total


def _over(field: str, what: str, limit: str) -> Failed:
    return Failed(message=f"the work {what}; its limit is {limit} (limits.{field})", field=f"limits.{field}")
