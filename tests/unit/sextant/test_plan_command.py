"""`sextant plan` answers without a server, and says what is wrong with what it was given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sextant.command.app import build
from sextant_planner import catalogue
from sextant_planner.search.engine import Choice


def run(*words: str) -> Any:
    return CliRunner().invoke(build(), ["plan", *words])


def test_a_plan_is_explained_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "plan.svg"
    result = run("resnet152", "--device", "a100-80gb", "--devices", "8", "--picture", str(picture))
    assert result.exit_code == 0
    assert result.stdout.startswith("Plan for resnet152 on 8 x a100-80gb")
    assert "Why this one" in result.stdout
    assert picture.read_text().startswith("<svg")


def test_json_is_the_whole_choice() -> None:
    result = run("bert-base", "--device", "h100-80gb", "--devices", "4", "--dp", "2", "--json")
    assert result.exit_code == 0
    choice = Choice.from_json(result.stdout)
    assert all(candidate.plan.dp == 2 for candidate in choice.candidates)


def test_a_cluster_may_be_a_short_file_or_a_whole_profile(tmp_path: Path) -> None:
    short, whole = tmp_path / "short.yaml", tmp_path / "whole.json"
    short.write_text("device: a100-80gb\ndevices: 2\nspeeds: [1.0, 0.5]\n")
    whole.write_text(catalogue.cluster("a100-80gb", 2).model_dump_json())
    assert run("resnet50", "--cluster", str(short)).exit_code == 0
    assert run("resnet50", "--cluster", str(whole)).exit_code == 0


def test_a_model_may_be_a_profile_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(catalogue.model("resnet50").to_json())
    assert run(str(file), "--device", "a100-80gb", "--devices", "2").exit_code == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nope", "--device", "a100-80gb", "--devices", "2"), "bert-base"),
        (("resnet50", "--device", "abacus", "--devices", "2"), "a100-80gb"),
        (("resnet50",), "--cluster FILE"),
        (("./missing.json", "--device", "a100-80gb", "--devices", "2"), "no such file"),
        (("resnet50", "--device", "a100-80gb", "--devices", "4", "--tp", "3"), "the product of the degrees must be 4"),
        (("resnet50", "--device", "a100-80gb", "--devices", "2", "--precision", "int4"), "float32"),
        (("llama-70b", "--device", "a100-80gb", "--devices", "2"), "does not fit"),
    ],
)
def test_what_cannot_be_planned_is_said_with_what_could(words: tuple[str, ...], said: str) -> None:
    result = run(*words)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_bad_cluster_file_is_named_with_its_field(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps({**catalogue.cluster("a100-80gb", 2).model_dump(), "layout": [0, 7]}))
    result = run("resnet50", "--cluster", str(file))
    assert result.exit_code == 2
    assert "layout names a device that is not there" in result.stderr
