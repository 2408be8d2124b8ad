"""`sextant zoo` answers without a server."""

from __future__ import annotations

import json
from typing import Any

from typer.testing import CliRunner

from sextant.command.app import build
from sextant_zoo import names


def run(*words: str) -> Any:
    return CliRunner().invoke(build(), ["zoo", *words])


def test_all_architectures_are_listed_as_a_table_and_as_json() -> None:
    shown = run("list")
    assert shown.exit_code == 0
    assert all(name in shown.stdout for name in ("resnet18", "bert"))
    entries = json.loads(run("list", "--json").stdout)
    assert [entry["name"] for entry in entries] == names()
    assert len(entries) >= 24
    assert all(entry["settings"] and entry["tasks"] and entry["splits"] for entry in entries)


def test_those_of_one_modality() -> None:
    entries = json.loads(run("list", "--modality", "series", "--json").stdout)
    assert {entry["name"] for entry in entries} == {"autoformer", "dlinear", "lstm", "patchtst", "time-series"}
    refused = run("list", "--modality", "smell")
    assert refused.exit_code == 2
    assert "accepted are image, text, series, table" in refused.stderr


def test_one_is_shown_with_its_settings() -> None:
    shown = run("show", "resnet18", "--json")
    entry = json.loads(shown.stdout)
    assert entry["settings"]["depths"] == [2, 2, 2, 2]
    assert entry["settings"]["block"] == "basic"
    unknown = run("show", "resnet19")
    assert unknown.exit_code == 2
    assert "resnet18" in unknown.stderr
