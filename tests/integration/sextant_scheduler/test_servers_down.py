"""A server that is down at the start is told in a line, and waited for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from sextant.stack.servers import free_port

from .conftest import Api


@contextmanager
def process(words: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        running = subprocess.Popen([sys.executable, "-m", *words], env=environment, stderr=output)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@pytest.mark.parametrize(
    ("missing", "url"),
    [
        ("SEXTANT_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:9/none"),
        ("SEXTANT_NATS_URL", "nats://127.0.0.1:9"),
    ],
)
def test_an_api_whose_server_is_away_waits_for_it_and_says_so(api: Api, missing: str, url: str, tmp_path: Path) -> None:
    port = free_port(0)
    environment = {**api.environment, "SEXTANT_API_PORT": str(port), missing: url}
    log = tmp_path / "log"
    with process(["sextant_scheduler", "api"], environment, log) as running:
        until = time.monotonic() + 20
        said, answer = False, None
        while time.monotonic() < until and not said and answer is None:
            said = "unreachable" in log.read_text()
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/v1/health/ready", timeout=5)
            except httpx.TransportError:
                time.sleep(0.1)
        assert running.poll() is None
    assert said or (answer is not None and answer.status_code == 503)
    assert "Traceback" not in log.read_text()


def test_a_migration_without_its_database_ends_with_one_line(api: Api) -> None:
    environment = {**api.environment, "SEXTANT_DATABASE_URL": "postgresql+psycopg://nobody@127.0.0.1:9/none"}
    words = [sys.executable, "-m", "sextant_scheduler", "migrate"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
