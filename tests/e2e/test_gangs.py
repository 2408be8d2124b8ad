"""A gang over several nodes: it trains as one node does, and goes on over those that are left when one is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from sextant._requests import JobLike
from sextant.answers import ProgressEvent
from sextant_shared.contracts.views import JobView
from tests.e2e.conftest import Stack

DATA = {"kind": "prepare", "name": "ganged", "source": "package://sklearn/digits", "task": "image-classification"}
TRAIN: dict[str, Any] = {
    "kind": "train",
    "name": "ganged",
    "data": {"dataset": "ganged"},
    # No batch normalisation: whatever the plan, the result is that of one process.
    "model": {"zoo": "vit", "config": {"patch": 2, "hidden": 32, "heads": 4, "layers": 2}},
    "config": {"epochs": 6, "checkpoint_every_steps": 15},
    "resources": {"ranks": 4, "min_ranks": 2},
    "parallel": {"auto_tune": True},
}


@contextmanager
def another_node(stack: Stack, name: str, directory: Path) -> Iterator[psutil.Process]:
    """A second agent, with two slots and a directory of its own, beside that of the stack."""
    environment = psutil.Process(stack.pid("trainer")).environ()
    own = {"SEXTANT_NODE_NAME": name, "SEXTANT_WORK_DIR": str(directory), "SEXTANT_METRICS_PORT": "0"}
    with (directory / "agent.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sextant_trainer", "agent"], env={**environment, **own}, stdout=output, stderr=output
        )
    agent = psutil.Process(process.pid)
    try:
        until = time.monotonic() + 60
        while name not in (node.name for node in stack.client.nodes() if node.state == "READY"):
            assert time.monotonic() < until, (directory / "agent.log").read_text()
            time.sleep(0.1)
        yield agent
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def data(stack: Stack) -> JobView:
    """The data set."""
    return stack.client.wait(stack.client.submit(DATA), timeout=60)


def curve(stack: Stack, job: JobView) -> list[float]:
    """The validation loss of each epoch."""
    file = stack.home / "artefacts" / str(job.id) / str(job.fence) / "metrics.jsonl"
    return [json.loads(line)["val_loss"] for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(stack: Stack, data: JobView) -> list[float]:
    """What the run's losses are on one node."""
    assert data.state == "SUCCEEDED"
    job = stack.client.submit({**TRAIN, "resources": {"ranks": 2}})
    return curve(stack, stack.client.wait(job, timeout=120))


def reserved(stack: Stack, job: JobLike) -> list[dict[str, Any]]:
    """The node with rank 0, and ranks by node, for each time that the job was placed."""
    return [event.body for event in stack.client.events(job) if event.event == "reserved"]


@pytest.mark.timeout(240)
def test_a_gang_over_two_nodes_trains_as_one_node_does(stack: Stack, alone: list[float], tmp_path: Path) -> None:
    with another_node(stack, "zz-other", tmp_path):
        ended = stack.client.wait(stack.client.submit(TRAIN), timeout=120)
    (placed,) = reserved(stack, ended)
    assert sorted(placed["ranks"].values()) == [2, 2]
    assert "zz-other" in placed["ranks"]
    assert curve(stack, ended) == pytest.approx(alone, rel=0.02)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [pytest.param("zz-member", marks=pytest.mark.slow), "00-leader"])
def test_a_gang_goes_on_without_a_node_that_was_killed(
    stack: Stack, alone: list[float], tmp_path: Path, name: str
) -> None:
    with another_node(stack, name, tmp_path) as agent:
        job = stack.client.submit(TRAIN)
        for event in stack.client.stream(job):
            if isinstance(event, ProgressEvent) and event.fraction >= 0.4:
                break
        for process in [*agent.children(recursive=True), agent]:
            os.kill(process.pid, 9)
        ended = stack.client.wait(job, timeout=150)
    first, *later = reserved(stack, ended)
    assert (first["node"] == name) == name.startswith("00")
    assert list(later[-1]["ranks"].values()) == [2]
    assert name not in later[-1]["ranks"]
    lost = [event.body["reason"] for event in stack.client.events(job) if event.event == "worker-lost"]
    assert lost
    if name.startswith("zz"):
        assert name in lost[0]
    assert curve(stack, ended) == pytest.approx(alone, rel=0.02)
