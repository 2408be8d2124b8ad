"""Ray Jobs and MLflow as their users run them: each in a virtual environment of its own, its server, its own client."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.report import Report, percentile

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).with_name("clients")
START_S = 90.0


@dataclass(frozen=True)
class Peer:
    """How one is installed, started and asked."""

    name: str
    requirement: str
    server: tuple[str, ...]
    """The command, with {port} and {home}."""
    health: str
    client: str
    """The script in `clients`, which is given the URL and the load."""

    @property
    def environment(self) -> Path:
        """Its virtual environment, made once."""
        return ROOT / ".bench" / self.name


RAY = Peer(
    "ray",
    "ray[default]==2.60.*",
    (
        "ray",
        "start",
        "--head",
        "--block",
        "--disable-usage-stats",
        "--dashboard-port",
        "{port}",
        "--temp-dir",
        "{home}",
    ),
    "/api/version",
    "ray_jobs.py",
)
MLFLOW = Peer(
    "mlflow",
    "mlflow==3.17.*",
    ("mlflow", "server", "--port", "{port}", "--backend-store-uri", "sqlite:///{home}/runs.db"),
    "/health",
    "mlflow_runs.py",
)


def measure(report: Report, port: int) -> None:
    """Add both peers' figures: submissions a second, their latencies, memory, and how fast Ray's jobs drain."""
    jobs, seconds = (16, 5.0) if report.quick else (64, 20.0)
    for peer, load in ((RAY, str(jobs)), (MLFLOW, str(seconds))):
        answer, pss_mb = _ask(peer, port, load, report)
        latencies_ms = [1000 * value for value in answer["latencies_s"]]
        report.figure(f"{peer.name}_per_second", len(latencies_ms) / answer["seconds"])
        report.figure(f"{peer.name}_p50_ms", percentile(latencies_ms, 0.5))
        report.figure(f"{peer.name}_p99_ms", percentile(latencies_ms, 0.99))
        report.figure(f"{peer.name}_pss_mb", pss_mb)
        report.sample(f"{peer.name}_latency_ms", latencies_ms)
        if "drained_s" in answer:
            report.figure(f"{peer.name}_drained_per_second", answer["done"] / answer["drained_s"])
    report.note(
        "peers: their own server and client, 16 clients, one after the other, after ours; Ray's jobs run `true`"
    )


def _ask(peer: Peer, port: int, load: str, report: Report) -> tuple[dict[str, Any], float]:
    _install(peer, report)
    with _served(peer, port) as (url, pid):
        report.say(f"{peer.name} answers; measuring")
        command = [str(peer.environment / "bin/python"), str(CLIENTS / peer.client), url, load]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            raise SystemExit(f"{peer.name}: {done.stderr[-2000:]}")
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        return answer, _pss_mb(pid)


def _install(peer: Peer, report: Report) -> None:
    stamp = peer.environment / ".installed"
    if stamp.is_file() and stamp.read_text() == peer.requirement:
        return
    report.say(f"installing {peer.requirement} into {peer.environment.relative_to(ROOT)}")
    subprocess.run([sys.executable, "-m", "venv", str(peer.environment)], check=True)
    pip = [str(peer.environment / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, peer.requirement], check=True)
    stamp.write_text(peer.requirement)


@contextmanager
def _served(peer: Peer, port: int) -> Iterator[tuple[str, int]]:
    home = tempfile.mkdtemp(prefix=f"bench-{peer.name}-", dir="/tmp")
    command = [word.format(port=port, home=home) for word in peer.server]
    command[0] = str(peer.environment / "bin" / command[0])
    environment = {**os.environ, "PATH": f"{peer.environment / 'bin'}:{os.environ['PATH']}"}
    log = (Path(home) / "log").open("wb")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url + peer.health, peer.name, process)
        yield url, process.pid
    finally:
        for each in [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]:
            each.kill()
        process.wait()
        log.close()
        shutil.rmtree(home, ignore_errors=True)


def _wait(url: str, name: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise SystemExit(f"{name} did not start within {START_S:.0f} s")


def _pss_mb(pid: int) -> float:
    total = 0.0
    root = psutil.Process(pid)
    for process in [root, *root.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss / 2**20
        except psutil.NoSuchProcess:
            continue
    return total
