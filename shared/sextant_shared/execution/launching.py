"""How a supervisor starts the processes that do the work: one interface, whatever is behind it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from sextant_shared.execution import process_table
from sextant_shared.execution.process_table import Process
from sextant_shared.execution.workbench import EVENTS_FD
from sextant_shared.lifecycle.place import Place

# What a child may know of this machine: nothing that holds an address or a credential.
INHERITED = (
    "PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH",
    "CC", "CXX", "CUDA_VISIBLE_DEVICES", "GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME",
)  # fmt: skip
ROUNDS = 100
"""What is killed may have started something just before; what the kernel holds fast is left to it."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How the processes of an attempt ended: their exit codes by rank (negative: the signal), and who failed first."""

    exit_codes: tuple[int, ...]
    failed_rank: int | None = None

    @property
    def clean(self) -> bool:
        """Whether every process exited with status 0."""
        return all(code == 0 for code in self.exit_codes)

    @property
    def told(self) -> str:
        """How they ended, in words: signals and statuses, and the rank that failed first."""
        names = ", ".join(sorted({_named(code) for code in self.exit_codes if code != 0}))
        who = "" if self.failed_rank is None else f" (rank {self.failed_rank} first)"
        return f"the work's process ended with {names or 'status 0 and no result'}{who}"


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"


class Running(Protocol):
    """The living processes of one attempt on this node."""

    @property
    def meeting(self) -> str | None:
        """HOST:PORT where those of other nodes meet them, where there are others."""

    def events(self) -> Iterator[bytes]:
        """The lines that the work reports, until it ends."""

    def processes(self) -> Sequence[Process]:
        """All that live now, those that the work has started included."""

    def wait(self) -> Ending:
        """Wait until every process is gone."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the work; for several ranks, to the one that leads."""

    def kill(self) -> None:
        """End all processes at once."""


class Launcher(Protocol):
    """Starts this node's part of an attempt in `directory` (see workbench), with its output to `log.txt` there."""

    def start(self, directory: Path, place: Place) -> Running:
        """Start it; returns at once."""


class ProcessLauncher:
    """Starts `python -m MODULE work DIRECTORY` as a session of its own, with an environment without secrets."""

    def __init__(self, module: str, keep: tuple[int, ...] = (), environment: Mapping[str, str] | None = None) -> None:
        """`keep` are descriptors that the children inherit, such as the worker's lock; `environment` is given too."""
        self._module = module
        self._keep = keep
        self._environment = environment or {}

    def start(self, directory: Path, place: Place) -> Running:
        """Start one process; there is only one place here."""
        reader, writer = os.pipe()
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        try:
            with (directory / "log.txt").open("ab") as output:
                process = subprocess.Popen(
                    [sys.executable, "-m", self._module, "work", str(directory)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**environment, **self._environment, EVENTS_FD: str(writer), "PYTHONUNBUFFERED": "1"},
                    pass_fds=[writer, *self._keep],
                    start_new_session=True,
                )
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return _Process(process, reader)


class _Process:
    meeting: str | None = None

    def __init__(self, process: subprocess.Popen[bytes], reader: int) -> None:
        self._process = process
        self._reader = reader

    def events(self) -> Iterator[bytes]:
        with os.fdopen(self._reader, "rb") as lines:
            yield from lines

    def processes(self) -> Sequence[Process]:
        return process_table.of_session(self._process.pid)

    def wait(self) -> Ending:
        code = self._process.wait()
        # Whatever the work left behind in its session ends with it.
        self.kill()
        return Ending((code,), None if code == 0 else 0)

    def signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        for _ in range(ROUNDS):
            left = self.processes()
            if not left:
                return
            process_table.end(left)
            time.sleep(0.01)
