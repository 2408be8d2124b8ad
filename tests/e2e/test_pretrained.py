"""A model begins with the weights of another: of a version, and of a directory that was pushed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from sextant.errors import InvalidRequest
from tests.e2e.conftest import Stack

HEAD = {"7.weight", "7.bias"}
"""Of the small `mlp`: all else is frozen."""
DATA = {"kind": "prepare", "name": "begun", "source": "package://sklearn/digits", "task": "image-classification"}


def train(name: str, zoo: str = "mlp", **model: Any) -> dict[str, Any]:
    return {
        "kind": "train",
        "name": name,
        "data": {"dataset": "begun"},
        "model": {"zoo": zoo, **model},
        "config": {"epochs": 2},
    }


@pytest.fixture(scope="module")
def begun(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first model's directory."""
    stack.client.wait(stack.client.submit(DATA), timeout=60)
    stack.client.wait(stack.client.submit(train("begun")), timeout=120)
    directory = tmp_path_factory.mktemp("begun")
    stack.client.pull("begun@1", directory)
    return directory


@pytest.mark.timeout(180)
@pytest.mark.parametrize("pushed", [False, True])
def test_a_model_begins_with_the_weights_of_another(stack: Stack, begun: Path, tmp_path: Path, pushed: bool) -> None:
    source = stack.client.push(begun).uri if pushed else "model://begun"
    name = "pushed" if pushed else "continued"
    job = stack.client.wait(stack.client.submit(train(name, weights=source, adapt="head")), timeout=120)
    stack.client.pull(f"{name}@1", tmp_path)
    about = json.loads((tmp_path / "model.json").read_text())
    assert about["pretrained"]["source"] == (source if pushed else "model://begun@1")
    first, second = (load_file(path / "model.safetensors") for path in (begun, tmp_path))
    assert first.keys() == second.keys()
    assert {name for name in first if not np.array_equal(first[name], second[name])} == HEAD
    (found,) = stack.client.reproduce(job, timeout=120)
    assert (found.verdict, found.differences) == ("identical", [])


@pytest.mark.timeout(180)
def test_what_a_search_found_is_trained_with_the_weights_that_it_began_with(stack: Stack, begun: Path) -> None:
    data, model = {"dataset": "begun"}, {"zoo": "mlp", "weights": "model://begun", "adapt": "head"}
    search = {"kind": "tune", "data": data, "model": model, "trials": 1, "maximize": "val_accuracy"}
    search |= {"space": {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}, "config": {"epochs": 1}}
    found = {"kind": "train", "data": data, "config": {"step": "search"}, "register_as": "found"}
    job = stack.client.submit({"name": "searched", "steps": {"search": search, "train": found}})
    ended = stack.client.wait(job, timeout=150)
    made = next(step for step in ended.steps or [] if step.step == "train")
    assert (made.inputs or {})["weights"]["name"] == "begun"
    (version,) = stack.client.models("found")
    assert version.meta["pretrained"]["adapt"] == "head"
    (again,) = stack.client.reproduce(stack.client.job(made.id), timeout=120)
    assert (again.verdict, again.differences) == ("identical", [])


@pytest.mark.timeout(120)
def test_what_is_no_source_of_weights_is_refused_before_anything_runs(stack: Stack, begun: Path) -> None:
    for source, zoo, says in (
        ("model://nobody", "mlp", "no model 'nobody'"),
        ("model://Not A Name", "mlp", "names no model"),
        ("model://begun@1", "small-cnn", "is for mlp"),
        ("upload://00000000-0000-7000-8000-000000000000", "mlp", "does not exist"),
        ("upload://none", "mlp", "names no source"),
        ("https://example.org/weights", "mlp", "no weights"),
    ):
        with pytest.raises(InvalidRequest, match=says) as caught:
            stack.client.submit(train("refused", zoo, weights=source))
        assert [finding.field for finding in caught.value.findings] == ["model.weights"]


@pytest.mark.timeout(120)
def test_an_upload_without_weights_ends_the_job_with_the_reason(stack: Stack, begun: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no weights")
    for path, says in ((tmp_path / "notes.txt", "no directory"), (tmp_path, "has no model.safetensors")):
        job = stack.client.submit(train("without", weights=stack.client.push(path).uri))
        ended = stack.client.wait(job, timeout=60, check=False)
        assert ended.state == "FAILED"
        assert says in str(ended.error)
        assert "model.weights" in str(ended.error)
