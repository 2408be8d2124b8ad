"""The agent's side of the zygote: a launcher whose gangs are forked by it. Imports no torch."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import structlog

from sextant_shared.errors import WorkInterrupted
from sextant_shared.execution import process_table
from sextant_shared.execution.launching import INHERITED, Ending, Running
from sextant_shared.execution.process_table import Process
from sextant_shared.lifecycle.place import Place

log = structlog.get_logger(__name__)
START_TIMEOUT_S = 60.0


class Gang:
    """The ranks of one attempt on this node."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self.meeting: str | None = None
        self._started = threading.Event()
        self._over = threading.Event()
        self._pids: list[int] = []
        self._codes: dict[int, int] = {}
        self._failed: int | None = None

    def events(self) -> Iterator[bytes]:
        """The lines that the first rank of this node reports, until all who could write are gone."""
        with os.fdopen(self._reader, "rb") as lines:
            yield from lines

    def processes(self) -> Sequence[Process]:
        """The ranks, and what they have started."""
        return process_table.of_group(self._pids[0]) if self._pids and not self._over.is_set() else ()

    def wait(self) -> Ending:
        """Wait until every rank is gone."""
        self._over.wait()
        return Ending(tuple(self._codes.get(pid, -signal.SIGKILL) for pid in self._pids), self._failed)

    def signal(self, number: signal.Signals) -> None:
        """SIGUSR1 goes to the first rank of this node, which tells the others; SIGTERM to all."""
        if self._over.is_set() or not self._pids:
            return
        try:
            if number == signal.SIGUSR1:
                os.kill(self._pids[0], number)
            else:
                os.killpg(self._pids[0], number)
        except ProcessLookupError:
            return

    def kill(self) -> None:
        """End all ranks at once."""
        self.signal(signal.SIGKILL)

    def started(self, pids: list[int], meeting: str | None) -> None:
        """The zygote has forked the ranks, which ranks of other nodes meet there."""
        self._pids, self.meeting = pids, meeting
        self._started.set()

    def wait_started(self, timeout_s: float) -> bool:
        """Whether the ranks exist by then."""
        return self._started.wait(timeout_s) and bool(self._pids)

    def ended(self, pid: int, code: int) -> bool:
        """A rank ended; whether the gang is over with it."""
        if code != 0 and self._failed is None:
            self._failed = self._pids.index(pid)
        self._codes[pid] = code
        if len(self._codes) == len(self._pids):
            self._over.set()
        return self._over.is_set()

    def lost(self) -> None:
        """The zygote is gone, and by the kernel's hand every rank with it."""
        self._started.set()
        self._over.set()


class ZygoteLauncher:
    """Starts gangs through a zygote, which is started when first needed and again after it died."""

    def __init__(self, profiles: Path, address: str, threads: int = 1, keep: tuple[int, ...] = ()) -> None:
        """Each rank computes with `threads` and keeps what it measures in `profiles`; ranks of other nodes meet those
        of this one at `address`. `keep` are descriptors to inherit, such as the worker's lock.
        """
        self._profiles, self._address, self._threads = profiles, address, threads
        self._keep = keep
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready = threading.Event()
        self._waiting: dict[int, Gang] = {}
        self._by_pid: dict[int, Gang] = {}
        self._number = 0

    @property
    def ready(self) -> bool:
        """Whether the zygote has imported everything and waits for work."""
        return self._ready.is_set()

    @property
    def pid(self) -> int | None:
        """The zygote's process id."""
        return self._process.pid if self._process else None

    def warm(self) -> None:
        """Start the zygote if it does not run; returns at once."""
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._spawn()

    def start(self, directory: Path, place: Place) -> Running:
        """Fork the ranks. Raises WorkInterrupted where the zygote cannot be had."""
        self.warm()
        reader, writer = os.pipe()
        gang = Gang(reader)
        try:
            if not self._ready.wait(START_TIMEOUT_S):
                raise WorkInterrupted("the training processes could not be started: the zygote is not ready")
            self._request(gang, directory, place, writer)
            if not gang.wait_started(START_TIMEOUT_S):
                raise WorkInterrupted("the zygote died while it started the training processes")
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        return gang

    def close(self) -> None:
        """End the zygote and all gangs."""
        with self._lock:
            if self._socket:
                self._socket.shutdown(socket.SHUT_RDWR)
            if self._process:
                self._process.wait(10)

    def _request(self, gang: Gang, directory: Path, place: Place, writer: int) -> None:
        with self._lock:
            self._number += 1
            self._waiting[self._number] = gang
            body = {"gang": self._number, "directory": str(directory), "place": asdict(place)}
            if self._socket is None:
                raise WorkInterrupted("the zygote died")
            try:
                socket.send_fds(self._socket, [json.dumps(body).encode()], [writer])
            except OSError as error:
                raise WorkInterrupted(f"the zygote died: {error.strerror}") from None

    def _spawn(self) -> None:
        self._ready.clear()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environment = {name: os.environ[name] for name in INHERITED if name in os.environ}
        # Threads that OpenMP starts before a fork would be missing in the child, and hang it.
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        # What torch.compile makes is loaded as code: it is not to lie where others write.
        environment |= {"TORCHINDUCTOR_CACHE_DIR": str(self._profiles.parent / "compiled")}
        arguments = [str(theirs.fileno()), str(self._threads), str(self._profiles), self._address]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sextant_trainer.zygote", *arguments],
                env=environment,
                pass_fds=[theirs.fileno(), *self._keep],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._socket = ours
        thread = threading.Thread(target=self._listen, args=(ours, self._process), name="zygote", daemon=True)
        thread.start()

    def _listen(self, ours: socket.socket, process: subprocess.Popen[bytes]) -> None:
        while True:
            try:
                data = ours.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                break
            self._on_message(json.loads(data))
        process.wait()
        log.warning("zygote.ended", code=process.returncode)
        with self._lock:
            self._ready.clear()
            lost = {*self._waiting.values(), *self._by_pid.values()}
            self._waiting.clear()
            self._by_pid.clear()
        for gang in lost:
            gang.lost()

    def _on_message(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            self._ready.set()
        elif "gang" in message:
            with self._lock:
                gang = self._waiting.pop(message["gang"])
                self._by_pid.update(dict.fromkeys(message["pids"], gang))
            gang.started(message["pids"], message["meeting"])
        else:
            pid = int(message["pid"])
            gang = self._by_pid.pop(pid)
            gang.ended(pid, int(message["code"]))
