"""A series from a table to a live endpoint: prepared, forecast, stopped when it gets no better, exported, evaluated."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.e2e.conftest import Stack


def table(path: Path) -> Path:
    """Forty days of hours: two waves of a day, one of which grows."""
    lines = ["hour,load,heat"]
    for hour in range(960):
        wave = math.sin(2 * math.pi * hour / 24)
        time = f"2026-0{1 + hour // 744}-{1 + hour % 744 // 24:02d} {hour % 24:02d}:00"
        lines.append(f"{time},{wave:.4f},{20 + 0.01 * hour - 3 * wave:.4f}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.timeout(240)
def test_a_series_is_forecast_by_a_live_endpoint(stack: Stack, tmp_path: Path) -> None:
    upload = stack.client.push(table(tmp_path / "load.csv"))
    job = stack.client.submit(
        {
            "name": "load",
            "steps": {
                "data": {
                    "kind": "prepare",
                    "source": upload.uri,
                    "task": "forecasting",
                    "split": {"time": "hour", "val": 0.15, "test": 0.15},
                    "window": {"input": 48, "horizon": 12},
                },
                "model": {
                    "kind": "train",
                    "data": {"step": "data"},
                    "model": {"zoo": "dlinear"},
                    "config": {"epochs": 200, "patience": 2, "learning_rate": 0.01, "schedule": "constant"},
                    "resources": {"ranks": 2},
                },
                "served": {"kind": "export", "model": {"step": "model"}},
                "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": "load"},
                "check": {
                    "kind": "evaluate",
                    "endpoint": {"step": "live"},
                    "data": {"step": "data"},
                    "require": {"mse": "< 0.05"},
                },
            },
        }
    )
    ended = stack.client.wait(job, timeout=200, check=False)
    assert ended.state == "SUCCEEDED", ended.error
    steps = {step.step: step for step in ended.steps or []}
    trained = (steps["model"].outputs or {})["metrics"]
    checked = (steps["check"].outputs or {})["metrics"]
    assert trained["val_loss"] == trained["val_mse"]
    assert trained["epoch"] < 198
    assert checked["mse"] < 0.05 < checked["naive_mse"]
    # 144 rows of test, of which a window forecasts 12.
    assert (steps["check"].outputs or {})["rows"] == 133
    window = [[[0.0, 20.0]] * 48]
    assert stack.client.predict("load", window).outputs[0].shape == [1, 12, 2]
