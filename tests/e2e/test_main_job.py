"""The main job, raw data to a served model, and what people do around it."""

from __future__ import annotations

from typing import Any

import pytest

from sextant.errors import Conflict, InvalidRequest, NotFound
from tests.e2e.conftest import Stack


@pytest.mark.timeout(180)
def test_pipeline_ends_with_an_endpoint_that_meets_its_requirement(stack: Stack, pipeline: dict[str, Any]) -> None:
    client = stack.client
    job = client.submit({"kind": "pipeline", **pipeline})
    ended = client.wait(job, timeout=150)

    assert ended.state == "SUCCEEDED"
    steps = {step.step: step for step in ended.steps or []}
    assert list(steps) == ["data", "search", "train", "export", "serve", "check"]
    check = steps["check"].outputs or {}
    assert check["metrics"]["accuracy"] >= 0.97
    assert check["latency_ms"]["p99"] > 0

    # The endpoint answers through the API, the model can be pulled apart from it, and the history holds together.
    answer = client.predict("digits", [[[[0] * 8] * 8]])
    assert answer.outputs[0].shape == [1, 10]
    lineage = {node.type for node in client.lineage(steps["serve"].id).nodes}
    assert lineage == {"job", "dataset", "model", "endpoint"}
    assert stack.check_audit().verdict == "ok"


def test_probe_goes_from_submission_to_success(stack: Stack) -> None:
    job = stack.client.submit({"kind": "probe", "returns": {"answer": 42}})
    ended = stack.client.wait(job, timeout=30)
    assert ended.outputs == {"answer": 42}
    assert [event.event for event in stack.client.events(job)] == ["submitted", "claimed", "succeeded"]


def test_failing_probe_is_tried_again_and_succeeds(stack: Stack) -> None:
    spec = {"kind": "probe", "outcome": "fail-once", "retry": {"backoff_s": 0.1}}
    ended = stack.client.wait(stack.client.submit(spec), timeout=30)
    assert (ended.state, ended.attempt, ended.errors) == ("SUCCEEDED", 2, 1)


def test_failing_probe_fails_with_its_message(stack: Stack) -> None:
    ended = stack.client.wait(stack.client.submit({"kind": "probe", "outcome": "fail"}), timeout=30, check=False)
    assert ended.state == "FAILED"
    assert ended.error == {"message": "the probe was told to fail"}


def test_running_job_can_be_cancelled(stack: Stack) -> None:
    job = stack.client.submit({"kind": "probe", "sleep_s": 600})
    for event in stack.client.stream(job):
        if getattr(event, "state", None) == "RUNNING":
            break
    stack.client.cancel(job, "the test has seen enough")
    ended = stack.client.wait(job, timeout=30, check=False)
    assert ended.state == "CANCELLED"
    with pytest.raises(Conflict):
        stack.client.pause(job)


def test_failed_step_fails_what_depends_on_it(stack: Stack) -> None:
    spec = {
        "kind": "pipeline",
        "steps": {"a": {"kind": "probe", "outcome": "fail"}, "b": {"kind": "probe"}, "c": {"kind": "probe"}},
        "after": {"b": ["a"]},
    }
    ended = stack.client.wait(stack.client.submit(spec), timeout=30, check=False)
    assert ended.state == "FAILED"
    assert {step.step: step.state for step in ended.steps or []} == {"a": "FAILED", "b": "FAILED", "c": "SUCCEEDED"}


def test_unknown_things_are_named(stack: Stack) -> None:
    with pytest.raises(InvalidRequest) as unknown_dataset:
        stack.client.submit({"kind": "train", "data": {"dataset": "nowhere"}, "model": {"zoo": "small-cnn"}})
    assert unknown_dataset.value.findings[0].field == "data"
    data = {"kind": "prepare", "source": "package://sklearn/digits", "task": "image-classification"}
    wide = {"kind": "train", "data": {"step": "d"}, "model": {"zoo": "small-cnn"}, "resources": {"ranks": 64}}
    with pytest.raises(InvalidRequest) as too_wide:
        stack.client.submit({"kind": "pipeline", "steps": {"d": data, "t": wide}})
    finding = too_wide.value.findings[0]
    assert (finding.field, finding.accepted) == ("steps.t.resources.ranks", "1 to 2")
    with pytest.raises(NotFound):
        stack.client.job("01a20d5b-36a5-735a-b1d4-4947584b0231")
