"""Proof that a worker's earlier process, and all it started, is gone: a file lock that children inherit."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


class WorkerLock:
    """Held by a worker and inherited by its children; free only when the last of them has ended."""

    def __init__(self, directory: Path, worker: str) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._descriptor = os.open(directory / f"{worker}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        os.set_inheritable(self._descriptor, True)

    @property
    def descriptor(self) -> int:
        """To be passed on to child processes."""
        return self._descriptor

    def acquire(self) -> None:
        """Wait until every process of the predecessor has ended."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
