"""Supervises child processes: starts them, tells when they are ready, restarts them, stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sextant.errors import ClientError
from sextant.stack.home import Home, write_private
from sextant.stack.processes import ProcessSpec

Say = Callable[[str, str], None]
"""(process, line) -> shown to the person who watches."""

READY_POLL_S = 0.05
HEALTH_EVERY_S = 5.0
HEALTH_FAILURES = 6
STOP_GRACE_S = 15.0
STABLE_S = 30.0
MAX_BACKOFF_S = 10.0
LOG_LIMIT_BYTES = 10 * 2**20
LINE_LIMIT_BYTES = 1 << 16
EARLY_ENDS = 5
"""So often may a process end before it was ever ready: its start has a fault that no other try will mend."""
PR_SET_PDEATHSIG = 1


class StackFailed(ClientError):
    """A process of the stack did not come up."""


@dataclass(slots=True)
class Child:
    """A supervised process as it is now."""

    spec: ProcessSpec
    process: asyncio.subprocess.Process | None = None
    ready: bool = False
    restarts: int = 0
    since: float = 0.0
    backoff_s: float = 0.2
    said: str = ""
    """Its last line."""
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """The processes of one stack."""

    def __init__(self, home: Home, say: Say) -> None:
        self._home = home
        self._say = say
        self._children: dict[str, Child] = {}
        self._stopping = False
        self.url = ""

    async def run_once(self, spec: ProcessSpec, timeout_s: float) -> None:
        """Run a process to its end. Raises StackFailed with its last words where it fails."""
        process = await self._spawn(spec)
        output = b""
        try:
            output, _ = await asyncio.wait_for(process.communicate(), timeout_s)
        except TimeoutError:
            process.kill()
        if process.returncode != 0:
            words = output.decode(errors="replace").strip().splitlines()[-3:]
            raise StackFailed(f"{spec.name} failed: {' | '.join(words) or f'no answer in {timeout_s:.0f} s'}")

    async def start(self, specs: Sequence[ProcessSpec], timeout_s: float) -> None:
        """Start the processes side by side and wait until all are ready. Raises StackFailed naming one that is not."""
        for spec in specs:
            child = Child(spec)
            self._children[spec.name] = child
            child.task = asyncio.create_task(self._supervise(child))
        deadline = time.monotonic() + timeout_s
        while waiting := [c for spec in specs if not (c := self._children[spec.name]).ready]:
            if self._stopping:
                return
            for child in waiting:
                if child.restarts >= EARLY_ENDS:
                    raise StackFailed(f"{child.spec.name} ends again and again: {child.said}; {self._see(child)}")
            if time.monotonic() > deadline:
                raise StackFailed(
                    f"{waiting[0].spec.name} was not ready within {timeout_s:.0f} s; {self._see(waiting[0])}"
                )
            await asyncio.sleep(READY_POLL_S)
        self.write_state()

    def _see(self, child: Child) -> str:
        return f"see {self._log(child.spec.name)}"

    async def stop(self) -> None:
        """Stop everything, the last started first."""
        self._stopping = True
        groups = [[c for c in self._children.values() if c.spec.metrics_port]]
        groups.append([c for c in self._children.values() if not c.spec.metrics_port])
        for group in groups:
            await asyncio.gather(*(self._stop_child(child) for child in group))
        for child in self._children.values():
            if child.task:
                child.task.cancel()

    async def _stop_child(self, child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.Signals[child.spec.stop_signal])
        try:
            await asyncio.wait_for(process.wait(), STOP_GRACE_S)
        except TimeoutError:
            self._say(child.spec.name, "did not stop in time and is killed")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    async def _supervise(self, child: Child) -> None:
        while not self._stopping:
            child.process = await self._spawn(child.spec)
            child.since = time.time()
            began = time.monotonic()
            output = asyncio.create_task(self._copy_output(child, child.process))
            health = asyncio.create_task(self._watch(child))
            code = await child.process.wait()
            health.cancel()
            child.ready = False
            # Something that the process started may keep its output open; that must not keep the process down.
            await asyncio.wait([output], timeout=1.0)
            output.cancel()
            if self._stopping:
                return
            child.backoff_s = 0.2 if time.monotonic() - began > STABLE_S else min(MAX_BACKOFF_S, child.backoff_s * 2)
            child.restarts += 1
            self._say(child.spec.name, f"ended with {_named(code)}; starts again in {child.backoff_s:.1f} s")
            self.write_state()
            await asyncio.sleep(child.backoff_s)

    async def _spawn(self, spec: ProcessSpec) -> asyncio.subprocess.Process:
        account = pwd.getpwnam(spec.account) if spec.account else None
        return await asyncio.create_subprocess_exec(
            *spec.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(spec.environment) or None,
            cwd="/",
            start_new_session=True,
            preexec_fn=_die_with_parent(signal.Signals[spec.stop_signal]),
            user=account.pw_uid if account else None,
            group=account.pw_gid if account else None,
            extra_groups=[] if account else None,
        )

    async def _copy_output(self, child: Child, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was asked for
        path = self._log(child.spec.name)
        stream = path.open("ab")
        rest = b""
        try:
            while chunk := await process.stdout.read(1 << 16):
                if stream.tell() > LOG_LIMIT_BYTES:
                    stream.close()
                    path.replace(path.with_suffix(".log.1"))
                    stream = path.open("ab")
                stream.write(chunk)
                stream.flush()
                # What is written in parts is shown in whole lines.
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_LIMIT_BYTES:
                    lines, rest = [*lines, rest], b""
                self._show(child, lines)
        finally:
            self._show(child, [rest])
            stream.close()

    def _show(self, child: Child, lines: list[bytes]) -> None:
        for line in (raw.decode(errors="replace").rstrip() for raw in lines):
            if line:
                child.said = line
                self._say(child.spec.name, line)

    async def _watch(self, child: Child) -> None:
        while not await self._answers(child.spec, "/readyz"):
            await asyncio.sleep(READY_POLL_S)
        child.ready = True
        self.write_state()
        failures = 0
        while True:
            await asyncio.sleep(HEALTH_EVERY_S)
            failures = 0 if await self._answers(child.spec, "/healthz") else failures + 1
            if failures >= HEALTH_FAILURES and child.process:
                self._say(child.spec.name, "does not answer any more and is restarted")
                os.killpg(child.process.pid, signal.SIGKILL)

    @staticmethod
    async def _answers(spec: ProcessSpec, path: str) -> bool:
        try:
            # Not wait_for: on Python 3.11 it drops a cancellation that comes as the answer does.
            async with asyncio.timeout(2.0):
                return await _ask(spec, path)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return False

    def _log(self, name: str) -> Path:
        return self._home.logs / f"{name}.log"

    def pids(self) -> dict[str, int]:
        """The living processes by name."""
        return {name: child.process.pid for name, child in self._children.items() if child.process}

    def write_state(self) -> None:
        """Tell `status` how things are."""
        processes = {
            name: {
                "pid": child.process.pid if child.process and child.process.returncode is None else None,
                "ready": child.ready,
                "restarts": child.restarts,
                "since": child.since,
            }
            for name, child in self._children.items()
        }
        write_private(self._home.state_file, json.dumps({"pid": os.getpid(), "url": self.url, "processes": processes}))


async def _ask(spec: ProcessSpec, path: str) -> bool:
    if spec.socket:
        # A socket that accepts is not yet a PostgreSQL that answers; it says no by closing at once.
        reader, writer = await asyncio.open_unix_connection(spec.socket)
        ready = await _postgres_answers(reader, writer) if spec.name == "postgres" else True
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", spec.metrics_port or spec.tcp_port)
        ready = True
        if spec.metrics_port:
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            ready = b" 200 " in await reader.readline()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return ready


async def _postgres_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    # A start-up message for a user: an authentication request ("R") comes back once the server takes connections.
    body = b"\0\3\0\0" + b"user\0sextant\0database\0postgres\0\0"
    writer.write((len(body) + 4).to_bytes(4, "big") + body)
    return await reader.readexactly(1) == b"R"


def _die_with_parent(number: signal.Signals) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def set_signal() -> None:
        libc.prctl(PR_SET_PDEATHSIG, number)

    return set_signal


def _named(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"


def port_is_free(port: int) -> bool:
    """Whether a service could listen on this loopback port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


if sys.platform != "linux":
    raise ImportError("the local stack runs on Linux")
