"""What a task makes of a dataset version: batches, figures, and which epoch is the better one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import WorkOrder
from sextant_trainer.training.recipe import make_recipe
from sextant_trainer.training.study import Seen
from sextant_trainer.training.tasks import name_of, open_task

SERIES = np.stack([np.arange(100.0), np.arange(100.0) ** 2 / 100], 1).astype(np.float32)
MEAN, STD = SERIES[:70].mean(0), SERIES[:70].std(0)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A series of two columns: 70 rows of training, 10 of validation, 20 of test; windows of 8 and 2 steps."""
    values = pa.FixedSizeListArray.from_arrays(pa.array(SERIES.reshape(-1)), 2)
    table = pa.table({"time": np.arange(100), "values": values})
    with pa.OSFile(str(tmp_path / "series-00000.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    spans = {"train": (0, 70, 61), "val": (70, 80, 9), "test": (80, 100, 19)}
    about = {
        "task": "forecasting",
        "features": [{"name": "a"}, {"name": "b"}],
        "window": {"input": 8, "horizon": 2},
        "splits": {
            name: {"begin": begin, "end": end, "windows": windows, "files": ["series-00000.arrow"]}
            for name, (begin, end, windows) in spans.items()
        },
        "statistics": {name: {"mean": float(MEAN[i]), "std": float(STD[i])} for i, name in enumerate(("a", "b"))},
    }
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    return tmp_path


@pytest.mark.parametrize(("split", "begin", "windows"), [("train", 0, 61), ("val", 62, 9), ("test", 72, 19)])
def test_windows_are_cut_from_the_scaled_series(series: Path, split: str, begin: int, windows: int) -> None:
    task = open_task(series, TrainConfig(), {})
    assert (task.rows(split), task.shape, task.outputs) == (windows, (8, 2), 2)
    rows = np.array([windows - 1, 0])
    inputs, targets = task.batch(split, rows)
    scaled = (SERIES - MEAN) / STD
    for place, row in enumerate(rows):
        first = begin + row
        # Scaled in float64 there and in float32 here.
        np.testing.assert_allclose(inputs[place], scaled[first : first + 8], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(targets[place], scaled[first + 8 : first + 10], rtol=1e-5, atol=1e-5)


def test_what_is_forecast_in_a_split_lies_in_it(series: Path) -> None:
    task = open_task(series, TrainConfig(), {})
    for split, (begin, end) in {"train": (8, 70), "val": (70, 80), "test": (80, 100)}.items():
        _, targets = task.batch(split, np.arange(task.rows(split)))
        hours = targets[:, :, 0].numpy() * STD[0] + MEAN[0]
        # Whole numbers again, but for float32.
        assert np.rint(hours.min()) == begin
        assert np.rint(hours.max()) == end - 1


def test_rows_that_fill_up_a_batch_count_for_nothing(series: Path) -> None:
    task = open_task(series, TrainConfig(), {})
    torch.manual_seed(0)
    outputs = torch.randn(12, 2, 2)
    _, whole = task.batch("val", np.arange(9))
    inputs, padded = task.padded("val", np.arange(12))
    assert bool(inputs.isfinite().all())
    sums = task.sums(outputs, padded)
    torch.testing.assert_close(sums, task.sums(outputs[:9], whole))
    figures = task.metrics((sums / 9).tolist())
    error = outputs[:9] - whole
    assert figures["mse"] == figures["loss"] == pytest.approx(float(error.square().mean()), rel=1e-5)
    assert figures["mae"] == pytest.approx(float(error.abs().mean()), rel=1e-5)


def test_the_better_forecast_has_the_smaller_error(series: Path) -> None:
    task = open_task(series, TrainConfig(), {})
    assert task.better({"val_loss": 0.3}, {"val_loss": 0.4})
    assert not task.better({"val_loss": 0.4}, {"val_loss": 0.4})


def test_a_batch_is_a_function_of_the_step_whatever_the_ranks(series: Path) -> None:
    task = open_task(series, TrainConfig(), {})
    order = GlobalOrder(task.rows("train"), 16, 3)
    whole = task.train_batch(order, 5, slice(0, 16))
    parts = [task.train_batch(order, 5, slice(begin, begin + 8)) for begin in (0, 8)]
    for index in (0, 1):
        torch.testing.assert_close(whole[index], torch.cat([part[index] for part in parts]), rtol=0, atol=0)


def order_of(**spec: Any) -> WorkOrder:
    given = {"kind": "train", "data": {"dataset": "d"}, **spec}
    return WorkOrder(job_id="j", kind="train", name="job", fence=1, attempt=1, spec=given, inputs={})


@pytest.mark.parametrize(
    ("spec", "field", "accepted"),
    [
        ({"model": {"zoo": "resnet18"}}, "model.zoo", "dlinear"),
        ({"model": {"zoo": "resnet19"}}, "model.zoo", None),
        ({"model": {"zoo": "dlinear"}, "config": {"label_smoothing": 0.1}}, "config.label_smoothing", "0"),
        ({"model": {"zoo": "dlinear"}, "config": {"quantise": "int8"}}, "config.quantise", "defect-detection"),
        ({"model": {"zoo": "dlinear"}, "config": {"augment": {"rotate": 3.0}}}, "config.augment", "null"),
        ({"model": {"zoo": "dlinear"}, "config": {"level": 1.0}}, "config.level", "null"),
    ],
)
def test_what_does_not_go_with_the_task_is_refused(spec: dict[str, Any], field: str, accepted: str | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_recipe(order_of(**spec), "forecasting", 1)
    assert caught.value.field == field
    assert accepted is None or accepted in (caught.value.accepted or "")


def test_a_task_that_is_not_trained_is_refused_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_text(json.dumps({"task": "smelling"}))
    with pytest.raises(InvalidInput, match="smelling") as caught:
        name_of(tmp_path)
    assert "forecasting" in (caught.value.accepted or "")


def test_the_worst_forecasts_are_drawn_in_the_units_of_the_data(series: Path) -> None:
    task = open_task(series, TrainConfig(), {})
    _, targets = task.batch("val", np.arange(9))
    outputs = targets.clone()
    outputs[4, 1, 0] += 2.0
    found = task.study(Seen(np.arange(9), outputs, targets))
    assert found.by_step == pytest.approx([0.0, 4.0 / 18], rel=1e-5)
    first = found.worst[0]
    # The window 4 of validation forecasts the rows 74 and 75.
    assert (first.row, first.text) == (74, "a")
    assert [value for _, value in first.curves["came"]] == pytest.approx([74, 75], rel=1e-5)
    assert first.curves["forecast"][1][1] == pytest.approx(75 + 2 * STD[0], rel=1e-5)
    assert [at for at, _ in first.curves["before"]] == [-4, -3, -2, -1]
