"""Boards with defects: pictures and boxes pushed, a detector trained, exported, served and evaluated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.boards import BOXES, write_boards
from tests.e2e.conftest import Stack

STEPS: dict[str, Any] = {
    "data": {
        "kind": "prepare",
        "task": "defect-detection",
        "boxes": BOXES,
        "split": {"group": "board", "val": 0.16, "test": 0.16},
        "register_as": "boards",
    },
    "model": {
        "kind": "train",
        "data": {"step": "data"},
        "model": {
            "zoo": "detector",
            "config": {
                "backbone": "resnet18",
                "width": 0.25,
                "channels": 16,
                "depth": 1,
                "stride": 4,
                "coarsest": 16,
                "align": 2,
            },
        },
        "config": {
            "epochs": 12,
            "batch_size": 16,
            "learning_rate": 0.005,
            "schedule": "one-cycle",
            "iou": 0.33,
            "augment": {"turn": True, "noise": 10.0, "jitter": 1, "blank": 0.2},
        },
    },
    "served": {"kind": "export", "model": {"step": "model"}},
    "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": "boards"},
    "check": {
        "kind": "evaluate",
        "endpoint": {"step": "live"},
        "data": {"step": "data"},
        "iou": 0.33,
        "require": {"mean_ap": ">= 0.8", "f1": ">= 0.8"},
    },
}


@pytest.mark.timeout(540)
def test_defects_are_found_on_boards_that_were_never_seen(stack: Stack, tmp_path: Path) -> None:
    write_boards(tmp_path / "boards", 12, 16)
    data = {**STEPS["data"], "source": stack.client.push(tmp_path / "boards").uri}
    job = stack.client.submit({"name": "boards", "steps": {**STEPS, "data": data}})
    done = stack.client.wait(job, timeout=480)
    outputs = {str(step.step): step.outputs or {} for step in done.steps or []}
    assert outputs["data"]["rows"] == {"train": 128, "val": 32, "test": 32}
    figures = outputs["check"]["metrics"]
    # Every fourth picture has no defect: what is found there is false.
    assert figures["false_detection_rate"] <= 0.25
    stack.client.pull(f"boards.model@{outputs['model']['model']['version']}", tmp_path / "model")
    told = json.loads((tmp_path / "model" / "report.json").read_text())["validation"]
    assert told["classes"] == ["gap", "spot", "(nothing)"]
    assert sum(map(sum, told["confusion"])) > 0
    assert "data:image/png" in (tmp_path / "model" / "report.html").read_text()
