"""kill -9 of any one process in the middle of the pipeline: it still ends in the right result, once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sextant import Client
from tests.e2e.conftest import Stack

# When to strike: a process is killed while a step runs that needs it.
MOMENTS = {
    "data-prep": "data",
    "scheduler-control": "data",
    "tuner": "search",
    "trainer": "search",
    "nats": "search",
    "postgres": "search",
    "scheduler-api": "train",
    "exporter": "export",
    "valkey": "export",
    "inference": "check",
}


@pytest.mark.timeout(300)
def test_every_process_is_killed_once_and_the_pipeline_succeeds(stack: Stack, pipeline: dict[str, Any]) -> None:
    killed = _run_with_kills(stack, pipeline, MOMENTS)
    assert sorted(killed) == sorted(MOMENTS)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("name", sorted(MOMENTS))
def test_one_process_is_killed_and_the_pipeline_succeeds(stack: Stack, pipeline: dict[str, Any], name: str) -> None:
    assert _run_with_kills(stack, pipeline, {name: MOMENTS[name]}) == [name]


@pytest.mark.timeout(180)
def test_a_worker_that_is_killed_while_it_prepares_loses_no_row_and_doubles_none(stack: Stack, tmp_path: Path) -> None:
    rows = [
        f"please {verb} order {n} to customer {n * 31 % 977},{verb}" for n in range(40_000) for verb in ("move", "send")
    ]
    (tmp_path / "orders.csv").write_text("\n".join(["question,intent", *rows, "no label,"]) + "\n")
    client = Client(stack.url, stack.client.profile.key, retries=60)
    spec = {
        "kind": "prepare",
        "name": "orders",
        "source": client.push(tmp_path / "orders.csv").uri,
        "task": "text-classification",
        "text": "question",
        "target": "intent",
        # Near doubles are looked for so that there is time to strike.
        "clean": [{"do": "mask"}, {"do": "deduplicate", "near": 0.95}],
    }
    undisturbed = client.wait(client.submit(spec), timeout=60)
    job = client.submit(spec)
    while client.job(job.id).state != "RUNNING":
        time.sleep(0.02)
    time.sleep(0.5)
    os.kill(stack.pid("data-prep"), signal.SIGKILL)
    done = client.wait(job, timeout=120)
    assert done.worker_deaths == 1
    expected, found = undisturbed.outputs or {}, done.outputs or {}
    assert found["dataset"].pop("version") == expected["dataset"].pop("version") + 1
    assert found["dataset"]["digest"] == expected["dataset"]["digest"]
    assert (found["rows"], found["quarantined"]) == (expected["rows"], expected["quarantined"])


def _run_with_kills(stack: Stack, pipeline: dict[str, Any], moments: dict[str, str]) -> list[str]:
    spec = {"kind": "pipeline", **pipeline}
    client = Client(stack.url, stack.client.profile.key, retries=60)
    job = client.submit(spec)
    killed: list[str] = []
    over = threading.Event()
    striker = threading.Thread(target=_strike, args=(stack, str(job.id), moments, killed, over.is_set))
    striker.start()
    try:
        ended = client.wait(job, timeout=180, check=False)
    finally:
        over.set()
        striker.join()

    assert ended.state == "SUCCEEDED", [(s.step, s.state, s.error) for s in ended.steps or []]
    steps = {step.step: step for step in ended.steps or []}
    assert (steps["check"].outputs or {})["metrics"]["accuracy"] >= 0.97
    assert [step.state for step in ended.steps or []] == ["SUCCEEDED"] * 6
    assert stack.check_audit().verdict == "ok"
    return killed


def _strike(stack: Stack, job_id: str, moments: dict[str, str], killed: list[str], over: Callable[[], bool]) -> None:
    waiting = dict(moments)
    client = Client(stack.url, stack.client.profile.key, retries=60)
    while waiting and not over():
        job = client.job(job_id)
        running = {step.step for step in job.steps or [] if step.state == "RUNNING"}
        for name in [name for name, step in waiting.items() if step in running][:1]:
            os.kill(stack.pid(name), signal.SIGKILL)
            killed.append(name)
            del waiting[name]
            time.sleep(1.0)
        time.sleep(0.05)
