"""Anomalies of a series from a labelled table to a live endpoint that scores windows."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from tests.e2e.conftest import Stack


def table(path: Path) -> Path:
    """Forty days of hours with a wave of a day; on the 20th, 30th and 37th day it stands still for six hours."""
    draw, lines = random.Random(0), ["hour,load,stuck"]
    for hour in range(960):
        stuck = any(day * 24 + 2 <= hour < day * 24 + 8 for day in (20, 30, 37))
        load = 0.0 if stuck else math.sin(2 * math.pi * hour / 24) + draw.gauss(0, 0.05)
        lines.append(f"2026-0{1 + hour // 744}-{1 + hour % 744 // 24:02d} {hour % 24:02d}:00,{load:.4f},{stuck:d}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.timeout(240)
def test_rows_that_are_not_as_expected_score_over_one(stack: Stack, tmp_path: Path) -> None:
    upload = stack.client.push(table(tmp_path / "load.csv"))
    job = stack.client.submit(
        {
            "name": "stuck",
            "steps": {
                "data": {
                    "kind": "prepare",
                    "source": upload.uri,
                    "task": "anomaly-detection",
                    "target": "stuck",
                    "split": {"time": "hour", "val": 0.2, "test": 0.2},
                    "window": {"input": 48, "horizon": 1},
                },
                "model": {
                    "kind": "train",
                    "data": {"step": "data"},
                    "model": {"zoo": "dlinear"},
                    "config": {"epochs": 20, "learning_rate": 0.01},
                },
                "served": {"kind": "export", "model": {"step": "model"}},
                "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": "stuck"},
                "check": {
                    "kind": "evaluate",
                    "endpoint": {"step": "live"},
                    "data": {"step": "data"},
                    "require": {"f1": ">= 0.5"},
                },
            },
        }
    )
    ended = stack.client.wait(job, timeout=200, check=False)
    assert ended.state == "SUCCEEDED", ended.error
    steps = {step.step: step.outputs or {} for step in ended.steps or []}
    assert steps["model"]["metrics"]["val_threshold"] > 0
    assert steps["check"]["rows"] == 192
    assert steps["check"]["metrics"]["recall"] > 0.5
    stack.client.pull("stuck.model", tmp_path / "model")
    card = json.loads((tmp_path / "model/card.json").read_text())
    assert card["threshold"] == steps["model"]["metrics"]["val_threshold"]
    assert "dlinear on stuck.data@1: training report" in (tmp_path / "model/report.html").read_text()
    # The task of a registered version is known when a job is submitted.
    train = {"kind": "train", "data": {"dataset": "stuck.data"}}
    assert stack.client.validate({**train, "model": {"architecture": "transformer", "num_heads": 2}}).valid
    for model, field in (({"zoo": "bert"}, "model.zoo"), ({"architecture": "resnet"}, "model.architecture")):
        refused = stack.client.validate({**train, "model": model})
        assert [fault.field for fault in refused.errors] == [field]
        assert refused.errors[0].accepted
    wave = [[math.sin(2 * math.pi * hour / 24)] for hour in range(49)]
    answer = stack.client.predict("stuck", [wave, [*wave[:-1], [1.5]]]).outputs[0]
    assert answer.shape == [2, 1]
    assert answer.data[0] < 1 < answer.data[1]
