"""Anomalies as they are served and scored: over 1 is one, and every window of a split counts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn import metrics as reference

from sextant_exporter import anomalies, exporting, serving
from sextant_exporter.forecasts import Windows
from sextant_zoo import build

ABOUT: dict[str, Any] = {
    "task": "anomaly-detection",
    "architecture": {"zoo": "dlinear", "config": {"kernel": 3}},
    "input": {"name": "input", "shape": [8, 2], "dtype": "float32"},
    "output": {"name": "score", "shape": [1]},
    "window": {"input": 6, "horizon": 2},
    "preprocessing": {"mean": [1.0, 2.0], "std": [0.5, 4.0]},
    "classes": [],
    "threshold": 1e-4,
}


@pytest.mark.parametrize("level", [None, 0.5])
def test_the_score_is_the_error_of_the_forecast_over_the_threshold(tmp_path: Path, level: float | None) -> None:
    """And so much of the distance from the mean, which descriptions of before do not tell."""
    about = ABOUT if level is None else {**ABOUT, "level": level}
    shape, steps = serving.built_for(about)
    assert (shape, steps) == ((6, 2), 2)
    torch.manual_seed(0)
    model = build("dlinear", {"kernel": 3}, shape, steps).eval()
    served = serving.wrap(model, about)
    values = serving.sample(ABOUT, 5, np.random.default_rng(0))
    scaled = torch.from_numpy((values - [1.0, 2.0]) / [0.5, 4.0]).float()
    with torch.no_grad():
        expected = (model(scaled[:, :6]) - scaled[:, 6:]).square().mean((1, 2))
        expected += (level or 0.0) * scaled[:, 6:].square().mean((1, 2))
        torch.testing.assert_close(served(torch.from_numpy(values))[:, 0], expected / 1e-4)
    # Scores of some ten thousand: in float32 their own errors are over the gate's 1e-4, those of the forecast are not.
    exporting.write_onnx(served, about, tmp_path / "model.onnx")
    assert exporting.check_parity(served, about, tmp_path / "model.onnx").max_abs_diff < 1e-4


def test_every_window_is_asked_for_and_counted_by_its_last_row(tmp_path: Path) -> None:
    rows = np.arange(100, dtype=np.float32)
    anomaly = np.isin(np.arange(100), [70, 85, 86, 99])
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows), 1)
    table = pa.table({"values": values, "anomaly": anomaly})
    with pa.OSFile(str(tmp_path / "s.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    about = {
        "features": [{"name": "a"}],
        "window": {"input": 6, "horizon": 2},
        "statistics": {"a": {"std": 1.0}},
        "splits": {"test": {"begin": 80, "end": 100, "windows": 19, "files": ["s.arrow"]}},
    }
    windows = Windows(tmp_path, about, "test")
    labels = anomalies.labels_of(tmp_path, about, "test", windows)
    assert np.flatnonzero(labels).tolist() == [4, 5, 18]

    def ask(asked: Any) -> Any:
        # Calls the rows 85 and 90.
        return np.where(np.isin(asked[:, -1, 0], [85, 90]), 1.5, 0.5).astype(np.float32)[:, None]

    found = anomalies.measure(windows, labels, ask, lambda share: None)
    assert found is not None
    assert (found.true_positives, found.false_positives, found.false_negatives, found.windows) == (1, 1, 2, 19)
    called = np.isin(np.arange(81, 100), [85, 90])
    assert found.figures()["f1"] == pytest.approx(reference.f1_score(labels, called))
    anomalies.write(tmp_path, found, {"endpoint": "e", "split": "test"}, {"p50": 1.0})
    assert json.loads((tmp_path / "report.json").read_text())["recall"] == pytest.approx(1 / 3)
    assert "false alarms" in (tmp_path / "report.html").read_text()
    assert anomalies.measure(windows, labels, lambda asked: np.full((len(asked), 1), np.nan), print) is None
