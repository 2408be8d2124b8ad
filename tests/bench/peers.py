"""Ray Jobs and MLflow as their users run them: each in a virtual environment of its own, its server, its own client."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.bench.platforms import options
from tests.bench.report import Report, percentile

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = Path(__file__).with_name("clients")
START_S = 90.0
INSTALL_S = 900.0
ROUND_S = 180.0
WARM_UP_ROUNDS = 1


@dataclass(frozen=True)
class Peer:
    """How one is installed, started and asked."""

    name: str
    requirement: str
    server: str
    """The command, with {port} and {home}."""
    health: str
    client: str
    """The script in `clients`, which is given the URL and the load."""
    load: tuple[str, str]
    """Of a round, quick and full: jobs, or seconds."""

    @property
    def environment(self) -> Path:
        """Its virtual environment, made once."""
        return ROOT / ".bench" / self.name

    @property
    def python(self) -> str:
        """The interpreter of its environment."""
        return str(self.environment / "bin/python")


PEERS = (
    Peer(
        "ray",
        "ray[default]==2.60.*",
        "ray start --head --block --port 0 --disable-usage-stats --dashboard-port {port} --temp-dir {home}",
        "/api/version",
        "ray_jobs.py",
        ("16", "32"),
    ),
    Peer(
        "mlflow",
        "mlflow==3.17.*",
        "mlflow server --port {port} --backend-store-uri sqlite:///{home}/runs.db",
        "/health",
        "mlflow_runs.py",
        ("4", "8"),
    ),
)


def measure(report: Report, ours: Callable[[], float]) -> None:
    """Rounds of each peer and of `ours` (submissions a second) in turn, while both run; a round warms a peer up."""
    rounds = 1 if report.quick else 5
    for peer in PEERS:
        installed(peer.name, peer.requirement, report)
        with _served(peer) as (url, pid):
            answers, beside = [], []
            for number in range(WARM_UP_ROUNDS + rounds):
                answers.append(_ask(peer, url, peer.load[not report.quick]))
                beside.append(ours())
                rate = len(answers[-1]["latencies_s"]) / answers[-1]["seconds"]
                report.say(f"round {number}: {peer.name} {rate:.0f}/s, ours {beside[-1]:.0f}/s")
            _tell(report, peer, answers[WARM_UP_ROUNDS:], beside[WARM_UP_ROUNDS:], pss_mb([pid]))
    report.note("peers: their own server and client, 16 clients, in turn with ours; Ray's jobs run `true`")


def _tell(report: Report, peer: Peer, answers: list[dict[str, Any]], beside: list[float], held_mb: float) -> None:
    rates = [len(answer["latencies_s"]) / answer["seconds"] for answer in answers]
    latencies_ms = [1000 * value for answer in answers for value in answer["latencies_s"]]
    report.figure(f"{peer.name}_per_second", statistics.median(rates))
    report.figure(f"{peer.name}_p50_ms", percentile(latencies_ms, 0.5))
    report.figure(f"{peer.name}_p99_ms", percentile(latencies_ms, 0.99))
    report.figure(f"{peer.name}_pss_mb", held_mb)
    report.figure(f"{peer.name}_times", statistics.median([a / b for a, b in zip(beside, rates, strict=True)]))
    report.sample(f"{peer.name}_per_second", rates)
    report.sample(f"{peer.name}_latency_ms", latencies_ms)
    report.sample(f"{peer.name}_beside_per_second", beside)
    if "drained_s" in answers[0]:
        drained = [answer["done"] / answer["drained_s"] for answer in answers]
        report.figure(f"{peer.name}_drained_per_second", statistics.median(drained))
        report.sample(f"{peer.name}_drained_per_second", drained)
    version = said([peer.python, "-c", f"import importlib.metadata as m; print(m.version({peer.name!r}))"], START_S)
    report.note(f"{peer.name} {version.strip()}")


def _ask(peer: Peer, url: str, load: str) -> dict[str, Any]:
    words = said([peer.python, str(CLIENTS / peer.client), url, load], ROUND_S)
    answer: dict[str, Any] = json.loads(words[words.index("{") :])
    return answer


def installed(name: str, requirement: str, report: Report) -> str:
    """The interpreter of a virtual environment that has the requirement, made once."""
    environment = ROOT / ".bench" / name
    python, stamp = str(environment / "bin/python"), environment / ".installed"
    if not stamp.is_file() or stamp.read_text() != requirement:
        report.say(f"installing {requirement} into {environment.relative_to(ROOT)}")
        said([sys.executable, "-m", "venv", "--clear", str(environment)], INSTALL_S)
        said([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", requirement], INSTALL_S)
        stamp.write_text(requirement)
    return python


def said(command: list[str], timeout_s: float) -> str:
    """What the command wrote; the benchmark ends with one line where it fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s, cwd=ROOT)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{' '.join(command)} took longer than {timeout_s:.0f} s") from None
    if done.returncode:
        words = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise SystemExit(f"{' '.join(command)} failed: {words[0]}")
    return done.stdout


@contextmanager
def _served(peer: Peer) -> Iterator[tuple[str, int]]:
    home, port = tempfile.mkdtemp(prefix=f"bench-{peer.name}-", dir="/tmp"), options().port
    program, *arguments = peer.server.format(port=port, home=home).split()
    binaries = peer.environment / "bin"
    environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}"}
    with (Path(home) / "log").open("wb") as log:
        process = subprocess.Popen(
            [binaries / program, *arguments], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait(url + peer.health, peer.name, process)
        yield url, process.pid
    finally:
        for each in family([process.pid]):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _wait(url: str, name: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        with suppress(httpx.TransportError):
            if httpx.get(url, timeout=2).status_code == 200:
                return
        time.sleep(0.5)
    raise SystemExit(f"{name} did not start within {START_S:.0f} s")


def family(pids: Iterable[int]) -> set[psutil.Process]:
    """The processes and all below them."""
    found: set[psutil.Process] = set()
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            found |= {root, *root.children(recursive=True)}
    return found


def pss_mb(pids: Iterable[int]) -> float:
    """The proportional set size of the processes and of all below them."""
    total = 0.0
    for process in family(pids):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss / 2**20
    return total
