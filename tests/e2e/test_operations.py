"""What operators look at: metrics, status, and a stack that is up already."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from sextant import Client
from sextant.stack import control
from sextant.stack.home import Home
from sextant.stack.processes import METRICS_PORTS_FROM, SERVICES
from sextant.stack.running import RunningServers
from tests.e2e.conftest import Stack, free_options, home_directory

EXPECTED = {
    "scheduler-api": ["sextant_api_requests_total", "sextant_api_request_seconds_bucket"],
    "scheduler-control": ["sextant_jobs{", "sextant_outbox_lag_seconds", "sextant_repairs_total"],
    "scheduler-notary": ["sextant_audit_sealed_rows"],
    "data-prep": ["sextant_queue_wait_seconds", "sextant_attempt_seconds"],
    "exporter": ["sextant_queue_wait_seconds", "sextant_attempt_seconds"],
    "trainer": ["sextant_train_step_seconds", "sextant_train_samples_per_second"],
    "tuner": ["sextant_searches_open", "sextant_search_round_seconds_bucket"],
    "inference": ["sextant_batch_rows", "sextant_inference_requests_total"],
}


def run(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The `sextant` command on the stack's home."""
    command = [sys.executable, "-m", "sextant", *arguments]
    environment = {**os.environ, "SEXTANT_HOME": str(stack.home)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_service_has_metrics_and_says_that_it_is_ready(stack: Stack) -> None:
    stack.client.wait(stack.client.submit({"kind": "probe"}), timeout=30)
    first = int(stack.url.rpartition(":")[2]) + METRICS_PORTS_FROM
    for index, (name, _) in enumerate(SERVICES):
        at = f"http://127.0.0.1:{first + index}"
        assert httpx.get(f"{at}/healthz").status_code == 200
        assert httpx.get(f"{at}/readyz").text == "ready\n", name
        _await_metrics(f"{at}/metrics", EXPECTED[name])


def _await_metrics(url: str, expected: list[str]) -> None:
    # Some are read from the store, and that only now and then.
    until = time.monotonic() + 15
    while missing := [name for name in expected if name not in httpx.get(url).text]:
        assert time.monotonic() < until, (url, missing)
        time.sleep(0.2)


def test_a_second_up_in_the_same_home_says_that_it_is_up(stack: Stack) -> None:
    again = run(stack, "up", "--detach")
    assert again.returncode == 5
    assert "up" in again.stderr


def test_status_names_every_process(stack: Stack) -> None:
    status = run(stack, "status", "--json")
    assert status.returncode == 0, status.stderr
    names = {process["name"] for process in json.loads(status.stdout)["processes"]}
    assert {"postgres", "valkey", "nats", *(name for name, _ in SERVICES)} <= names


def test_a_job_is_followed_to_its_end_with_an_exit_code(stack: Stack) -> None:
    file = stack.home / "probe.yaml"
    file.write_text("kind: probe\noutcome: fail\n")
    failed = run(stack, "submit", str(file), "--follow")
    assert failed.returncode == 1, failed.stderr
    file.write_text("kind: probe\n")
    assert run(stack, "submit", str(file), "--follow").returncode == 0
    file.write_text("kind: probe\nsleeps: 3\n")
    refused = run(stack, "submit", str(file))
    assert refused.returncode == 2
    assert "sleeps" in refused.stderr


def test_an_attempt_is_in_the_log_of_its_worker_with_the_ids_of_its_job(stack: Stack) -> None:
    ended = stack.client.wait(stack.client.submit({"kind": "pipeline", "steps": {"a": {"kind": "probe"}}}), timeout=30)
    (step,) = ended.steps or []
    until = time.monotonic() + 10
    while not (found := [line for line in _log_lines(stack) if line.get("job_id") == str(step.id)]):
        assert time.monotonic() < until
        time.sleep(0.1)
    told = {name: found[-1][name] for name in ("event", "kind", "outcome", "attempt", "fence", "correlation_id")}
    assert told == {
        "event": "attempt.ended",
        "kind": "probe",
        "outcome": "succeeded",
        "attempt": 1,
        "fence": 1,
        "correlation_id": str(ended.id),
    }
    assert found[-1]["service"] in ("data-prep", "exporter")


def _log_lines(stack: Stack) -> list[dict[str, Any]]:
    texts = [path.read_text() for path in (stack.home / "logs").glob("*.log")]
    return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith('{"')]


def test_a_taken_port_is_named(stack: Stack) -> None:
    port = stack.url.rpartition(":")[2]
    environment = {**os.environ, "SEXTANT_HOME": str(stack.home / "second")}
    command = [sys.executable, "-m", "sextant", "up", "--detach", "--port", port]
    taken = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert taken.returncode == 2, taken.stderr
    assert port in taken.stderr


def test_a_secret_stands_in_no_log_and_in_no_command_line(stack: Stack) -> None:
    secrets = json.loads((stack.home / "credentials.json").read_text())
    logs = "".join(path.read_text(errors="replace") for path in (stack.home / "logs").rglob("*.log"))
    commands = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    for name, secret in secrets.items():
        assert str(secret) not in logs, name
        assert str(secret) not in commands, name


def test_ctrl_c_stops_all_in_order_and_what_ran_goes_on_at_the_next_up() -> None:
    with home_directory() as home:
        options = free_options()
        environment = {**os.environ, "SEXTANT_HOME": str(home)}
        command = [sys.executable, "-m", "sextant", "up", "--port", str(options.port), "--slots", "1"]
        with (home / "output").open("wb") as output:
            foreground = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        pids = _await_ready(home)
        with Client(f"http://127.0.0.1:{options.port}", Home(home).credentials().admin_key) as client:
            job = client.submit({"kind": "probe", "sleep_s": 600})
            assert "RUNNING" in (getattr(event, "state", None) for event in client.stream(job))
        foreground.send_signal(signal.SIGINT)
        assert foreground.wait(30) == 0
        assert not [name for name, pid in pids.items() if psutil.pid_exists(pid)]
        # A service that outlived its servers would have said so.
        assert "unavailable" not in (home / "output").read_text()
        try:
            now = control.up_detached(home, options)
            with Client(now.url, Home(home).credentials().admin_key) as client:
                assert "RUNNING" in (getattr(event, "state", None) for event in client.stream(job))
                events = [event.event for event in client.events(job)]
                assert (events, client.job(job).worker_deaths) == (["submitted", "claimed", "drained", "claimed"], 0)
        finally:
            control.down(home)


def test_servers_that_are_given_by_url_are_used_instead_of_our_own(
    servers: RunningServers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEXTANT_DATABASE_URL", database_url)
    monkeypatch.setenv("SEXTANT_REDIS_URL", servers.urls.redis_url)
    monkeypatch.setenv("SEXTANT_NATS_URL", servers.urls.nats_url)
    with home_directory() as home:
        try:
            now = control.up_detached(home, free_options())
            assert {process.name for process in now.processes} == {name for name, _ in SERVICES}
            with Client(now.url, Home(home).credentials().admin_key) as client:
                assert client.wait(client.submit({"kind": "probe"}), timeout=30).state == "SUCCEEDED"
        finally:
            control.down(home)


def _await_ready(home: Path) -> dict[str, int]:
    until = time.monotonic() + 60
    while not (now := control.status(home)).ready or len(now.processes) < len(SERVICES):
        assert time.monotonic() < until, (home / "output").read_text()[-2000:]
        time.sleep(0.1)
    return {process.name: process.pid or 0 for process in now.processes}
