"""Training that is paused or killed gives the model that an undisturbed run gives."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from sextant.answers import ProgressEvent
from sextant_shared.contracts.views import JobView
from sextant_zoo.registry import build
from tests.e2e.conftest import Stack

DATA = {"kind": "prepare", "name": "resumed", "source": "package://sklearn/digits", "task": "image-classification"}
TRAIN: dict[str, Any] = {
    "kind": "train",
    "name": "resumed",
    "data": {"dataset": "resumed"},
    "model": {"zoo": "small-cnn", "config": {"channels": 16}},
    "config": {"epochs": 12, "checkpoint_every_steps": 20, "augment": {"rotate": 10.0}, "ema": 0.95},
    "resources": {"ranks": 2},
}


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> JobView:
    """A run from the first step to the last."""
    stack.client.wait(stack.client.submit(DATA), timeout=60)
    return stack.client.wait(stack.client.submit(TRAIN), timeout=120)


def digest(job: JobView) -> str:
    """The hash over the model's files."""
    return str((job.outputs or {})["model"]["digest"])


def weights(stack: Stack, job: JobView, directory: Path) -> dict[str, Any]:
    """The model's tensors by name."""
    version = (job.outputs or {})["model"]["version"]
    stack.client.pull(f"resumed@{version}", directory)
    tensors: dict[str, Any] = load_file(directory / "model.safetensors")
    return tensors


def begin(stack: Stack, share: float) -> Any:
    """A run that has come to this share of its steps."""
    job = stack.client.submit(TRAIN)
    for event in stack.client.stream(job):
        if isinstance(event, ProgressEvent) and event.fraction >= share:
            break
    return job


def ranks(stack: Stack) -> list[psutil.Process]:
    """The processes of the running gang: children of the zygote, which is the agent's child."""
    agent = psutil.Process(stack.pid("trainer"))
    return [rank for zygote in agent.children() for rank in zygote.children()]


@pytest.mark.timeout(180)
def test_a_run_that_is_paused_and_resumed(stack: Stack, undisturbed: JobView, tmp_path: Path) -> None:
    job = begin(stack, 0.1)
    stack.client.pause(job)
    until = time.monotonic() + 30
    while stack.client.job(job).state != "PAUSED":
        assert time.monotonic() < until, stack.client.job(job)
        time.sleep(0.05)
    assert ranks(stack) == []
    stack.client.resume(job)
    ended = stack.client.wait(job, timeout=90)
    assert ended.attempt == 2
    then, now = weights(stack, undisturbed, tmp_path / "then"), weights(stack, ended, tmp_path / "now")
    for name, value in then.items():
        if "running" in name:
            # The pause adds one averaging over the ranks of what normalisation has seen: equal but for rounding.
            np.testing.assert_allclose(now[name], value, rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(now[name], value, err_msg=name)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_run_that_loses_a_rank(stack: Stack, undisturbed: JobView, number: signal.Signals) -> None:
    job = begin(stack, 0.4)
    victim = ranks(stack)[-1]
    os.kill(victim.pid, number)
    ended = stack.client.wait(job, timeout=120)
    assert ended.attempt == 2
    assert digest(ended) == digest(undisturbed)
    events = {event.event: event.body for event in stack.client.events(job)}
    assert number.name in events["worker-lost"]["reason"]


@pytest.mark.timeout(180)
def test_a_run_whose_zygote_is_killed(stack: Stack, undisturbed: JobView) -> None:
    job = begin(stack, 0.2)
    for zygote in psutil.Process(stack.pid("trainer")).children():
        zygote.kill()
    assert digest(stack.client.wait(job, timeout=120)) == digest(undisturbed)


@pytest.mark.timeout(180)
def test_a_cancelled_run_leaves_no_process_behind(stack: Stack, undisturbed: JobView) -> None:
    job = begin(stack, 0.1)
    stack.client.cancel(job)
    assert stack.client.wait(job, timeout=30, check=False).state == "CANCELLED"
    assert ranks(stack) == []


CNN = TRAIN["model"]
VIT = {"zoo": "vit", "config": {"patch": 2, "hidden": 32, "heads": 4, "layers": 2}}


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("model", "parallel", "plan"),
    [
        (CNN, {"auto_tune": True, "probe": 2}, ""),
        pytest.param(
            CNN,
            {"auto_tune": True, "probe": 1, "compile": True},
            "",
            marks=[
                pytest.mark.slow,
                pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++, which torch.compile needs"),
            ],
        ),
        (CNN, {"pipeline_stages": 2, "model_parallelism": 1, "data_parallelism": 1, "microbatches": 2}, "pp2"),
        pytest.param(
            VIT,
            {"pipeline_stages": 1, "model_parallelism": 2, "data_parallelism": 1},
            "tp2",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_run_by_a_plan(
    stack: Stack, undisturbed: JobView, tmp_path: Path, model: dict[str, Any], parallel: dict[str, Any], plan: str
) -> None:
    assert undisturbed.state == "SUCCEEDED"  # The data is there.
    job = stack.client.submit({**TRAIN, "model": model, "parallel": parallel})
    told = [event for event in stack.client.stream(job) if isinstance(event, ProgressEvent)]
    ended = stack.client.wait(job, timeout=120)
    outputs = ended.outputs or {}
    assert plan in outputs["plan"]["describe"]
    assert outputs["plan"]["predicted_step_ms"] > 0
    assert outputs["plan"]["step_ms"] > 0
    assert told[-1].metrics["predicted_step_ms"] == pytest.approx(outputs["plan"]["predicted_step_ms"])
    assert outputs["metrics"]["val_accuracy"] > 0.6  # A transformer so small is not done after 12 epochs.
    whole = build(model["zoo"], model["config"], (1, 8, 8), 10).state_dict()
    found = {name: value.shape for name, value in weights(stack, ended, tmp_path).items()}
    assert found == {name: tuple(value.shape) for name, value in whole.items()}
    candidates = json.loads((tmp_path / "plan.json").read_text())["choice"]["candidates"]
    ways = 2 if "compile" in parallel else 1
    assert sum("measured_s" in each for each in candidates) == ways * parallel.get("probe", 0)
    assert any("compile" in each["plan"] for each in candidates) == ("compile" in parallel)
    assert (tmp_path / "plan.svg").read_text().startswith("<svg")


def test_what_ranks_are_forked_from_holds_no_credential(stack: Stack) -> None:
    secrets = json.loads((stack.home / "credentials.json").read_text()).values()
    (zygote,) = psutil.Process(stack.pid("trainer")).children()
    known = list(zygote.environ().values())
    assert known
    assert not [value for value in known if any(secret in value for secret in secrets)]
