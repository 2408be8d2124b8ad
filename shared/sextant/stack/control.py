"""What the commands `up`, `down`, `status` and `logs` do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sextant.errors import BadInput, ClientError
from sextant.stack import given, processes
from sextant.stack.accounts import Accounts
from sextant.stack.home import Home, write_private
from sextant.stack.processes import Options
from sextant.stack.servers import free_port
from sextant.stack.supervisor import Say, StackFailed, Supervisor, port_is_free

READY_TIMEOUT_S = 90.0
SERVERS_TIMEOUT_S = 30.0
DOWN_TIMEOUT_S = 60.0
BAD_INPUT = 2
"""The exit status of `sextant up` for what its user has to change: a taken port, say."""


class AlreadyUp(ClientError):
    """A stack is up in this directory already."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process as the supervisor last saw it."""

    name: str
    pid: int | None
    ready: bool
    restarts: int
    uptime_s: float


@dataclass(frozen=True, slots=True)
class StackStatus:
    """Whether a stack is up, where, and how its processes are."""

    up: bool
    home: Path
    url: str
    pid: int | None
    processes: list[ProcessStatus]

    @property
    def ready(self) -> bool:
        """Whether all of it works."""
        return self.up and bool(self.processes) and all(process.ready for process in self.processes)


def up(path: Path, options: Options, say: Say) -> None:
    """Run the stack in the foreground until SIGINT or SIGTERM. Raises AlreadyUp, BadInput, StackFailed."""
    home = Home.prepare(path)
    lock = home.lock()
    if lock is None:
        raise AlreadyUp(f"a stack is up in {home.path} already: process {home.holder()}, {_url_of(home)}")
    try:
        given.check(os.environ)
        for port in processes.ports(options):
            if not port_is_free(port):
                raise BadInput(f"port {port} is taken by another process; choose others with --port", field="port")
        asyncio.run(_run(home, options, say))
    finally:
        os.close(lock)


def up_detached(path: Path, options: Options) -> StackStatus:
    """Start the stack in the background and return when it is ready. Raises as `up` does."""
    home = Home.prepare(path)
    if pid := home.holder():
        raise AlreadyUp(f"a stack is up in {home.path} already: process {pid}, {_url_of(home)}")
    home.state_file.unlink(missing_ok=True)
    slots = ["--slots", str(options.slots)] if options.slots else []
    output = home.logs / "up.log"
    with output.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "sextant", "up", "--port", str(options.port), *slots],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env={**os.environ, "SEXTANT_HOME": str(home.path)},
            start_new_session=True,
        )
    deadline = time.monotonic() + READY_TIMEOUT_S + SERVERS_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            lines = output.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            message = lines[0].removeprefix("error: ")
            if process.returncode == BAD_INPUT:
                raise BadInput(message)
            raise StackFailed(f"the stack did not come up: {message}")
        now = status(home.path)
        if now.ready and len(now.processes) > len(processes.SERVICES) - 1:
            return now
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    raise StackFailed(f"the stack was not ready in time; see {home.logs}")


def down(path: Path) -> bool:
    """Stop the stack and wait until it is gone; False where none is up."""
    pid = Home(path.absolute()).holder()
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT_S
    while Home(path.absolute()).holder() == pid:
        if time.monotonic() > deadline:
            raise StackFailed(f"the stack's supervisor, process {pid}, did not stop within {DOWN_TIMEOUT_S:.0f} s")
        time.sleep(0.05)
    return True


def status(path: Path) -> StackStatus:
    """How the stack of this directory is."""
    home = Home(path.absolute())
    pid = home.holder()
    try:
        state = json.loads(home.state_file.read_text())
    except (FileNotFoundError, ValueError):
        state = {}
    if pid is None or state.get("pid") != pid:
        return StackStatus(pid is not None, home.path, "", pid, [])
    now = time.time()
    found = [
        ProcessStatus(name, p["pid"], p["ready"], p["restarts"], max(0.0, now - p["since"]) if p["pid"] else 0.0)
        for name, p in state["processes"].items()
    ]
    return StackStatus(True, home.path, state["url"], pid, found)


def logs(path: Path, service: str | None, *, follow: bool, tail: int = 200) -> Iterator[tuple[str, str]]:
    """(process, line) of the log files: the last `tail` of each, then what comes. Raises BadInput for no such log."""
    directory = Home(path.absolute()).logs
    known = sorted(file.stem for file in directory.glob("*.log"))
    if service is not None and service not in known:
        raise BadInput(f"there is no log of {service!r}; there are: {', '.join(known) or 'none'}", field="service")
    offsets: dict[str, int] = {}
    for name in [service] if service else known:
        content = (directory / f"{name}.log").read_bytes()
        offsets[name] = len(content)
        yield from ((name, line) for line in content.decode(errors="replace").splitlines()[-tail:])
    while follow:
        time.sleep(0.3)
        for name, offset in offsets.items():
            file = directory / f"{name}.log"
            # A file that is shorter than what was read of it has begun anew.
            start = offset if file.stat().st_size >= offset else 0
            with file.open("rb") as stream:
                stream.seek(start)
                fresh = stream.read()
            offsets[name] = start + len(fresh)
            yield from ((name, line) for line in fresh.decode(errors="replace").splitlines())


async def _run(home: Home, options: Options, say: Say) -> None:
    supervisor = Supervisor(home, say)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    starting = asyncio.create_task(_start(supervisor, home, options, say))
    waiting = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait([starting, waiting], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            await starting
            await waiting
    finally:
        starting.cancel()
        say("sextant", "stopping")
        await supervisor.stop()
        home.state_file.unlink(missing_ok=True)


async def _start(supervisor: Supervisor, home: Home, options: Options, say: Say) -> None:
    credentials = home.credentials()
    urls = {name: value for name, value in os.environ.items() if name in given.PORTS and value}
    nats_port = free_port(0)
    where = processes.urls(home, credentials, nats_port, urls)
    base = processes.environment(home, credentials, where, options)
    supervisor.url = f"http://127.0.0.1:{options.port}"
    began = time.monotonic()
    await supervisor.start(processes.servers(home, credentials, nats_port, urls), SERVERS_TIMEOUT_S)
    accounts = Accounts(home, credentials, nats_port, urls)
    await supervisor.run_once(processes.migration(base, credentials, accounts), SERVERS_TIMEOUT_S)
    write_private(home.client_file, json.dumps({"url": supervisor.url, "key": credentials.admin_key}))
    await supervisor.start(processes.services(base, options, accounts), READY_TIMEOUT_S)
    say("sextant", f"ready in {time.monotonic() - began:.1f} s at {supervisor.url} (state in {home.path})")


def _url_of(home: Home) -> str:
    return status(home.path).url or "still starting"
