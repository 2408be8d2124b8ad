"""What the platform accepts as a job, and how it refuses the rest."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sextant_shared.contracts.specs import BY_KIND, SPEC, PipelineSpec, TrainSpec

TRAIN: dict[str, Any] = {"kind": "train", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}}
PROBE: dict[str, Any] = {"kind": "probe"}
UPLOAD = "upload://00000000-0000-4000-8000-000000000000"
BAD: list[tuple[dict[str, Any], str]] = [
    ({"kind": "mine"}, "probe"),
    ({}, "kind"),
    ({**PROBE, "sleep": 1}, "Extra inputs"),
    ({**PROBE, "sleep_s": "1"}, "valid number"),
    ({**PROBE, "sleep_s": -1}, "greater than or equal to 0"),
    ({**PROBE, "priority": 101}, "less than or equal to 100"),
    ({**PROBE, "name": "Not a name"}, "pattern"),
    ({**PROBE, "name": "../up"}, "pattern"),
    ({**PROBE, "returns": {"x": "a\0b"}}, "NUL"),
    ({**PROBE, "returns": {"x": "\ud800"}}, "unicode"),
    ({**PROBE, "returns": {"x": [1]}}, "Expected a number, a text, true or false"),
    ({**PROBE, "returns": {"x": "a" * 5000}}, "at most 4096"),
    ({**PROBE, "retry": {"max_attempts": 0}}, "greater than or equal to 1"),
    ({**TRAIN, "config": {"learning_rate": 0.0}}, "greater than 0"),
    ({**TRAIN, "config": {"epochs": 1.5}}, "valid integer"),
    ({**TRAIN, "config": {"epochs": True}}, "valid integer"),
    ({**TRAIN, "resources": {"ranks": 0}}, "greater than or equal to 1"),
    ({**TRAIN, "data": {"table": "d"}}, "dataset"),
    ({**TRAIN, "data": "d"}, "{step: NAME} or {dataset: NAME}"),
    ({"kind": "train", "data": {"dataset": "d"}}, "model is needed"),
    ({**TRAIN, "parallel": {"tensor": 2}}, "Extra inputs"),
    ({**TRAIN, "parallel": {"sharding": ["zero-4"]}}, "'none', 'zero-1', 'zero-2' or 'zero-3'"),
    ({**TRAIN, "parallel": {"global_batch": 8}}, "config.batch_size"),
    ({**TRAIN, "parallel": {"pipeline_stages": 4}, "resources": {"ranks": 6}}, "nearest that fits: pipeline_stages 3"),
    ({**TRAIN, "kind": "tune"}, "exactly one of maximize and minimize"),
    ({**TRAIN, "kind": "tune", "maximize": "a", "space": {"x": {"low": 2.0, "high": 1.0}}}, "low must be under high"),
    ({"kind": "prepare", "source": "package://x", "task": "tabular", "split": {"val": 0.6, "test": 0.5}}, "under 1"),
    ({"kind": "evaluate", "endpoint": "e", "data": {"dataset": "d"}, "require": {"accuracy": "0.9"}}, "pattern"),
    ({"kind": "pipeline", "steps": {}}, "at least 1"),
    ({"kind": "pipeline", "steps": {"p": {"kind": "pipeline", "steps": {}}}}, "probe"),
    ({"kind": "pipeline", "steps": {"a": PROBE}, "after": {"a": ["b"]}}, "the steps are ['a']"),
    ({"kind": "pipeline", "steps": {"a": PROBE}, "after": {"b": ["a"]}}, "after names 'b'"),
    ({"kind": "pipeline", "steps": {"a": PROBE, "b": PROBE}, "after": {"a": ["b"], "b": ["a"]}}, "cycle"),
    ({"kind": "pipeline", "steps": {"a": PROBE}, "after": {"a": ["a"]}}, "cycle"),
    ({"kind": "script", "code": "https://example.org/code.tar"}, "upload://"),
    ({"kind": "script", "code": UPLOAD, "run": "../train.py"}, "should match"),
    ({"kind": "script", "code": UPLOAD, "run": "a/../../train.py"}, "inside of the code"),
    ({"kind": "script", "code": UPLOAD, "run": "run.sh"}, "should match"),
    ({"kind": "script", "code": UPLOAD, "limits": {"memory_mb": 0}}, "greater than or equal to 256"),
    ({**TRAIN, "code": UPLOAD}, "code and model.code go together"),
    ({**TRAIN, "model": {"code": "nets:build"}}, "code and model.code go together"),
    ({**TRAIN, "code": UPLOAD, "model": {"code": "os; nets"}}, "should match"),
]


@pytest.mark.parametrize(("spec", "says"), BAD)
def test_a_bad_spec_is_refused_with_a_message_that_says_what_is_wrong(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SPEC.validate_python(spec)
    assert says in str(caught.value)


def test_a_plan_may_be_asked_for_in_plain_words() -> None:
    parallel = {"pipeline_stages": 2, "sharding": ["none", "zero-1"], "precision": "float32", "schedules": ["1f1b"]}
    spec = SPEC.validate_python({**TRAIN, "parallel": parallel, "resources": {"ranks": 4}})
    again = SPEC.validate_json(spec.model_dump_json())
    assert again == spec


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused(number: str) -> None:
    with pytest.raises(ValidationError):
        SPEC.validate_json(f'{{"kind": "probe", "sleep_s": {number}}}')


def test_an_error_of_an_input_speaks_only_of_the_form_that_was_meant() -> None:
    with pytest.raises(ValidationError) as caught:
        SPEC.validate_python({**TRAIN, "data": {"step": "a", "put": "x"}})
    assert [error["loc"][-1] for error in caught.value.errors()] == ["put"]


def test_every_kind_survives_the_way_through_json() -> None:
    minimal: dict[str, dict[str, Any]] = {
        "probe": {},
        "prepare": {"source": "package://sklearn/digits", "task": "tabular"},
        "train": TRAIN,
        "script": {"code": UPLOAD},
        "tune": {**TRAIN, "maximize": "val_accuracy"},
        "export": {"model": {"model": "m"}},
        "deploy": {"model": {"model": "m@3"}, "endpoint": "e"},
        "evaluate": {"endpoint": "e", "data": {"dataset": "d@2"}},
        "pipeline": {"steps": {"a": PROBE}},
    }
    assert set(minimal) == set(BY_KIND)
    for kind, body in minimal.items():
        spec = SPEC.validate_python({**body, "kind": kind})
        assert SPEC.validate_json(spec.model_dump_json()) == spec


def test_a_teacher_comes_before_its_student() -> None:
    text = files("sextant").joinpath("examples/boards.yaml").read_text()
    pipeline = SPEC.validate_json(json.dumps(yaml.safe_load(text)))
    assert isinstance(pipeline, PipelineSpec)
    assert pipeline.dependencies()["student"] == {"data", "teacher"}
    assert list(pipeline.dependencies()) == ["data", "teacher", "student", "export", "serve", "check"]


def test_the_order_of_steps_follows_their_inputs() -> None:
    text = files("sextant").joinpath("examples/digits.yaml").read_text()
    pipeline = SPEC.validate_json(json.dumps(yaml.safe_load(text)))
    assert isinstance(pipeline, PipelineSpec)
    order = list(pipeline.dependencies())
    assert order == ["data", "search", "train", "export", "serve", "check"]
    assert isinstance(pipeline.steps["train"], TrainSpec)
    assert pipeline.dependencies()["train"] == {"data", "search"}
