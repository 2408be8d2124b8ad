"""Ray Jobs on one head under kills and pauses of its processes: what is lost, what ends twice."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from tests.bench.baseline_judging import Found, judge, still
from tests.bench.peers import CLIENTS, PEERS, Peer, installed
from tests.bench.platforms import directory, options
from tests.bench.report import Report
from tests.chaos import workload

RAY: Peer = next(peer for peer in PEERS if peer.name == "ray")
SEEDS, JOBS = 3, 40
QUICK = (1, 12)
PER_SECOND = 0.5
"""A job of Ray is a process of its own that imports Ray: on two cores there is no room for more."""
PARTS = ("JobSupervisor", "raylet", "gcs_server", "dashboard/dashboard.py")
"""What is struck in turn: the actor that runs a job, the node's daemon, the head's store, and its server."""
EVERY_S = 8.0
PAUSE_S = 4.0
START_S = 120.0


def measure(report: Report) -> Found:
    """A head of its own for each schedule; it is started again whenever it ends."""
    installed(RAY.name, RAY.requirement, report)
    seeds, jobs = QUICK if report.quick else (SEEDS, JOBS)
    found = Found()
    for seed in range(seeds):
        report.say(f"ray, seed {seed}")
        _schedule(seed, jobs, found)
    report.note(
        f"Ray Jobs: one head, {PER_SECOND} jobs a second, every {EVERY_S:.0f} s one of {', '.join(PARTS)} is hit"
    )
    return found


def _schedule(seed: int, jobs: int, found: Found) -> None:
    wanted = [each for each in workload.plan(seed, 2 * jobs, PER_SECOND) if each.spec["kind"] == "probe"][:jobs]
    with directory() as path, _head(path) as head:
        work, answered = path / "work.txt", path / "answered.txt"
        plan = json.dumps([[each.at_s, each.key, each.spec["sleep_s"]] for each in wanted])
        script = [RAY.python, str(CLIENTS / "chaos_ray.py"), head.url, plan, str(work), str(answered)]
        with (path / "client.log").open("wb") as log:
            client = subprocess.Popen(script, stdout=log, stderr=log)
        strikes = _strike_until(head, client, seed, found)
        still(work)
        keys = set(answered.read_text().split()) if answered.exists() else set()
        judge(work, keys, strikes, found)
    found.seeds += 1


@dataclass
class Head:
    """`ray start --head`, as often as it takes."""

    path: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Of its jobs."""
        return f"http://127.0.0.1:{self.port}"

    def run(self) -> None:
        """Until all is over."""
        program, *arguments = RAY.server.format(port=self.port, home=self.path / "ray").split()
        binaries = RAY.environment / "bin"
        environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
        while not self.over.is_set():
            with (self.path / "head.log").open("ab") as log:
                self.process = subprocess.Popen(
                    [str(binaries / program), *arguments],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            self.process.wait()
            self.end()
            time.sleep(0.4)

    def family(self) -> list[psutil.Process]:
        """All processes of this head: those below it, and those that it left behind."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline"]):
            with contextlib.suppress(psutil.Error):
                if str(self.path / "ray") in " ".join(process.info["cmdline"] or []):
                    found += [process, *process.children(recursive=True)]
        return found

    def end(self) -> None:
        """Kill what is left."""
        for process in self.family():
            with contextlib.suppress(psutil.Error):
                process.kill()


@contextmanager
def _head(path: Path) -> Iterator[Head]:
    head = Head(path, options().port)
    thread = threading.Thread(target=head.run, daemon=True)
    thread.start()
    try:
        until = time.monotonic() + START_S
        while not _find(head, "dashboard/dashboard.py") or not _find(head, "raylet"):
            if time.monotonic() > until:
                raise SystemExit(f"Ray did not start within {START_S:.0f} s")
            time.sleep(0.5)
        time.sleep(5.0)
        yield head
    finally:
        head.over.set()
        head.end()
        thread.join(20)


def _find(head: Head, part: str) -> list[psutil.Process]:
    found = []
    for process in head.family():
        with contextlib.suppress(psutil.Error):
            if part in " ".join(process.cmdline()[:6]) and process.is_running():
                found.append(process)
    return found


def _strike_until(head: Head, client: subprocess.Popen[bytes], seed: int, found: Found) -> list[tuple[float, str]]:
    """Strike while jobs are submitted; the times of the kills, each of which any job may feel."""
    rng, strikes, turn = Random(f"ray {seed}"), list[tuple[float, str]](), 0
    effects: Counter[str] = found.effects
    while client.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            client.wait(EVERY_S)
            break
        part = PARTS[turn % len(PARTS)]
        there = _find(head, part)
        turn += 1
        if not there:
            continue
        found.faults += 1
        hit = rng.choice(there)
        with contextlib.suppress(psutil.Error):
            if rng.random() < 0.3:
                hit.suspend()
                time.sleep(PAUSE_S)
                hit.resume()
                effects[f"stop {part}"] += 1
            else:
                strikes.append((time.time(), ""))
                hit.send_signal(signal.SIGKILL)
                effects[f"kill {part}"] += 1
    return strikes
