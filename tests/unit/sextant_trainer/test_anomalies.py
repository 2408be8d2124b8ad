"""Anomalies in series: learnt from what is normal, found by the error of the forecast, with the best threshold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn import metrics as reference

from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.tasks import Task, open_task
from sextant_trainer.training.tasks.anomalies import BINS, HIGHEST, LOWEST

ROWS, INPUT, HORIZON = 100, 8, 2
WIDTH = 10 ** ((HIGHEST - LOWEST) / BINS)


def write(directory: Path, rows: list[int]) -> Path:
    """A series of two columns, with anomalies in these rows: 70 rows of training, 10 of validation, 20 of test."""
    values = np.stack([np.arange(100.0), np.sin(np.arange(100.0))], 1).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 2)
    anomaly = np.isin(np.arange(ROWS), rows)
    table = pa.table({"time": np.arange(ROWS), "values": column, "anomaly": anomaly})
    with pa.OSFile(str(directory / "series-00000.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    spans = {"train": (0, 70, 61), "val": (70, 80, 9), "test": (80, 100, 19)}
    about = {
        "task": "anomaly-detection",
        "features": [{"name": "a"}, {"name": "b"}],
        "target": {"name": "broken", "classes": []},
        "window": {"input": INPUT, "horizon": HORIZON},
        "splits": {
            name: {"begin": begin, "end": end, "windows": windows, "files": ["series-00000.arrow"]}
            for name, (begin, end, windows) in spans.items()
        },
        "statistics": {"a": {"mean": 0.0, "std": 1.0}, "b": {"mean": 0.0, "std": 1.0}},
    }
    (directory / "dataset.json").write_text(json.dumps(about))
    return directory


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """With anomalies in each split."""
    return open_task(write(tmp_path, [30, 31, 74, 75, 90]), TrainConfig(level=0.0), {})


def test_no_window_of_training_holds_an_anomaly(task: Task) -> None:
    inputs, targets = task.batch("train", np.arange(task.rows("train")))
    seen = np.concatenate([inputs[:, :, 0].numpy(), targets[:, :, 0].numpy()], 1)
    assert not np.isin(seen, [30, 31]).any()
    # Windows of ten rows begin at 0 to 60, and those that begin at 21 to 31 hold the row 30 or 31.
    assert task.rows("train") == 61 - 11
    assert not targets[:, :, 2].any()


def test_windows_of_the_other_splits_say_which_rows_are_anomalies(task: Task) -> None:
    _, targets = task.batch("val", np.arange(task.rows("val")))
    assert targets.shape == (9, HORIZON, 3)
    rows, labels = targets[:, :, 0].numpy(), targets[:, :, 2].numpy()
    assert rows.min() == 70
    assert rows.max() == 79
    assert (labels == np.isin(rows, [74, 75])).all()


def figures(task: Task, scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The task's figures for windows with these scores and labels of their last row."""
    targets = torch.zeros(len(scores) + 2, HORIZON, 3)
    targets[: len(scores), -1, 2] = torch.tensor(labels, dtype=torch.float32)
    targets[len(scores) :] = torch.nan
    outputs = torch.zeros(len(scores) + 2, HORIZON, 2)
    outputs[: len(scores)] = torch.tensor(np.sqrt(scores), dtype=torch.float32)[:, None, None]
    return task.metrics((task.sums(outputs, targets).double() / len(scores)).tolist())


@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_the_best_for_f1_but_for_the_width_of_a_bin(task: Task, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.random(400) < 0.1
    scores = np.exp(rng.normal(labels * 2.0, 1.0))
    found = figures(task, scores, labels)
    precision, recall, _ = reference.precision_recall_curve(labels, scores)
    best = (2 * precision * recall / np.maximum(1e-9, precision + recall)).max()
    called = scores > found["threshold"]
    assert found["f1"] == pytest.approx(reference.f1_score(labels, called), abs=0.02)
    assert best - 0.02 <= found["f1"] <= best + 1e-9
    assert found["loss"] == pytest.approx(scores[~labels].mean(), rel=1e-5)


def test_without_an_anomaly_in_validation_all_that_was_seen_is_normal(task: Task) -> None:
    scores = np.array([0.5, 0.1, 3.0])
    found = figures(task, scores, np.zeros(3, bool))
    assert 3.0 <= found["threshold"] <= 3.0 * WIDTH
    assert "f1" not in found


def made(
    directory: Path, config: TrainConfig, labels: np.ndarray, errors: np.ndarray, far: np.ndarray
) -> dict[str, float]:
    """The figures of windows whose rows lie so far from the mean, and are forecast with so large an error."""
    task = open_task(write(directory, [30]), config, {})
    targets = torch.zeros(len(labels), HORIZON, 3)
    targets[:, -1, 2] = torch.tensor(labels, dtype=torch.float32)
    targets[:, :, :2] = torch.tensor(far, dtype=torch.float32)[:, None, None]
    outputs = targets[:, :, :2] + torch.tensor(errors, dtype=torch.float32)[:, None, None]
    return task.metrics((task.sums(outputs, targets).double() / len(labels)).tolist())


@pytest.mark.parametrize("creeps", [False, True])
def test_validation_chooses_whether_the_level_counts(tmp_path: Path, creeps: bool) -> None:
    """An anomaly that creeps away is forecast well; one that stands still where a wave was stands at the mean."""
    labels = np.arange(100) >= 90
    wave = 1.4 * np.sin(np.arange(100))
    errors = np.where(labels & ~np.bool_(creeps), 1.0, 0.1)
    far = np.where(labels, 4.0 if creeps else 0.0, wave)
    found = made(tmp_path, TrainConfig(), labels, errors, far)
    assert found["level"] == float(creeps)
    assert found["f1"] == 1.0
    given = made(tmp_path, TrainConfig(level=float(not creeps)), labels, errors, far)
    assert given["level"] == float(not creeps)
    assert given["f1"] < 0.5
    assert found["loss"] == given["loss"]


def test_without_an_anomaly_to_choose_by_the_level_counts(tmp_path: Path) -> None:
    found = made(tmp_path, TrainConfig(), np.zeros(3, bool), np.array([0.1, 0.2, 0.1]), np.array([1.0, 2.0, 3.0]))
    assert found["level"] == 1.0
    assert 9.01 <= found["threshold"] <= 9.01 * WIDTH


def test_the_better_epoch_is_the_one_that_forecasts_what_is_normal_better(task: Task) -> None:
    assert task.better({"val_loss": 0.1, "val_f1": 0.2}, {"val_loss": 0.2, "val_f1": 0.9})


def test_training_without_a_normal_window_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="each of the 61 training windows of 10 rows") as caught:
        open_task(write(tmp_path, list(range(0, 70, 5))), TrainConfig(), {})
    assert caught.value.field == "data"
