"""`sextant example` gives pipelines to start from, and needs no server."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sextant import documents
from sextant.command.app import build
from sextant_shared.contracts.specs import PipelineSpec


def run(*words: str) -> Any:
    return CliRunner().invoke(build(), ["example", *words])


def test_all_files_of_the_package_are_listed() -> None:
    there = sorted(Path(str(entry)).stem for entry in files("sextant").joinpath("examples").iterdir())
    assert run().stdout.split() == there
    assert json.loads(run("--json").stdout) == there


@pytest.mark.parametrize("name", documents.EXAMPLES)
def test_what_is_printed_is_a_pipeline(tmp_path: Path, name: str) -> None:
    printed = run(name)
    assert printed.exit_code == 0
    (tmp_path / "spec.yaml").write_text(printed.stdout)
    content = documents.load(tmp_path / "spec.yaml").content
    assert content == json.loads(run(name, "--json").stdout)
    assert content["name"] == name
    assert "data" in PipelineSpec.model_validate(content, strict=False).steps


def test_another_name_is_refused_with_those_there_are() -> None:
    refused = run("none")
    assert refused.exit_code == 2
    assert all(name in refused.stderr for name in ("none", *documents.EXAMPLES))
