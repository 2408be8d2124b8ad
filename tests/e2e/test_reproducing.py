"""A job is run again from what was recorded of it, and the same comes out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from sextant.command.app import build
from sextant.errors import BadInput
from tests.e2e.conftest import Stack

PIPELINE: dict[str, Any] = {
    "kind": "pipeline",
    "name": "small",
    "steps": {
        "data": {
            "kind": "prepare",
            "source": "package://sklearn/digits",
            "task": "image-classification",
            "register_as": "small-digits",
        },
        "train": {
            "kind": "train",
            "data": {"step": "data"},
            "model": {"zoo": "mlp"},
            "config": {"epochs": 2, "seed": 3},
            "resources": {"ranks": 2},
            "register_as": "small",
        },
        "export": {"kind": "export", "model": {"step": "train"}, "register_as": "small-onnx"},
    },
}


def test_a_pipeline_gives_the_same_files_again(stack: Stack) -> None:
    job = stack.client.wait(stack.client.submit(PIPELINE), timeout=120)
    found = {one.step: one for one in stack.client.reproduce(job, timeout=120)}
    assert list(found) == ["data", "train", "export"]
    assert (found["data"].verdict, found["data"].differences) == ("identical", [])
    assert (found["train"].verdict, found["train"].differences) == ("identical", [])
    assert (found["export"].verdict, found["export"].differences) == ("identical", [])
    # It stands beside the first, which stays what its name means.
    assert [version.name for version in stack.client.models("small-again")] == ["small-again"]
    again = stack.client.job(found["train"].again)
    first = next(step for step in job.steps or [] if step.step == "train")
    assert (again.inputs or {})["data"]["digest"] == (first.inputs or {})["data"]["digest"]
    assert (first.outputs or {})["made_with"]["torch"]


def test_another_outcome_is_told(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    from sextant import reproducing

    job = stack.client.wait(stack.client.submit(PIPELINE), timeout=120)
    train = next(step for step in job.steps or [] if step.step == "train")
    pinned = reproducing.spec_of

    def careless(one: Any) -> dict[str, Any]:
        spec = pinned(one)
        return {**spec, "config": {**spec["config"], "seed": 4}}

    monkeypatch.setattr(reproducing, "spec_of", careless)
    monkeypatch.setenv("SEXTANT_URL", stack.url)
    monkeypatch.setenv("SEXTANT_API_KEY", stack.client.profile.key or "")
    run = CliRunner().invoke(build(), ["reproduce", str(train.id), "--json"])
    assert run.exit_code == 1, run.output
    (found,) = json.loads(run.stdout)
    assert found["verdict"] == "different"
    assert "model.safetensors differs" in found["differences"]


def test_a_search_and_an_evaluation_find_the_same_again(stack: Stack) -> None:
    steps = {
        **PIPELINE["steps"],
        "tune": {
            "kind": "tune",
            "data": {"step": "data"},
            "model": {"zoo": "mlp"},
            "config": {"epochs": 1},
            "trials": 7,  # More than TPE begins with at random.
            "maximize": "val_accuracy",
        },
        "deploy": {"kind": "deploy", "model": {"step": "export"}, "endpoint": "reproduced"},
        "evaluate": {"kind": "evaluate", "endpoint": {"step": "deploy"}, "data": {"step": "data"}},
    }
    job = stack.client.wait(stack.client.submit({**PIPELINE, "steps": steps}), timeout=180)
    by_step = {step.step: step for step in job.steps or []}
    (search,) = stack.client.reproduce(by_step["tune"].id, timeout=120)
    assert (search.verdict, search.differences) == ("equal", [])
    (evaluation,) = stack.client.reproduce(by_step["evaluate"].id, timeout=120)
    assert (evaluation.verdict, evaluation.differences) == ("equal", [])
    other = {"kind": "export", "model": {"model": "small"}, "register_as": "small-onnx"}
    stack.client.wait(stack.client.submit(other), timeout=60)
    deploy = {"kind": "deploy", "model": {"model": "small-onnx"}, "endpoint": "reproduced"}
    stack.client.wait(stack.client.submit(deploy), timeout=60)
    (evaluation,) = stack.client.reproduce(by_step["evaluate"].id, timeout=120)
    assert evaluation.verdict == "different"
    assert [line.partition(":")[0] for line in evaluation.differences] == ["served version"]


def test_what_left_nothing_to_compare_is_refused(stack: Stack) -> None:
    job = stack.client.wait(stack.client.submit({"kind": "probe"}))
    with pytest.raises(BadInput, match="accepted are jobs of the kinds prepare, train, script, tune, export, evaluate"):
        stack.client.reproduce(job)
