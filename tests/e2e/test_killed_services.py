"""kill -9 of any one process in the middle of the pipeline: it still ends in the right result, once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
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
    assert client.verify_audit().verdict == "ok"
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
