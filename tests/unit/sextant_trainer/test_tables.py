"""Tables for training: columns as the schema has them, the area under the curve, weights of classes, temperature."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import WorkOrder
from sextant_trainer.training.recipe import fitted, make_recipe
from sextant_trainer.training.study import Seen
from sextant_trainer.training.tasks import Task, open_task
from sextant_trainer.training.tasks.tables import BINS, WIDEST

ROWS = {"train": 40, "val": 12, "test": 8}
CLASSES = ["no", "yes"]


def feature(name: str, column: str, kind: str) -> dict[str, Any]:
    return {"name": name, "dtype": "float32", "shape": [], "column": column, "kind": kind}


FEATURES = [
    feature("age", "age", "number"),
    feature("age=missing", "age", "flag"),
    *(feature(f"job={value}", "job", "category") for value in "abc"),
    *(feature(f"sex={value}", "sex", "category") for value in "fm"),
    feature("hours", "hours", "number"),
]


def write(directory: Path, classes: list[str], features: list[dict[str, Any]]) -> Path:
    rng = np.random.default_rng(0)
    about: dict[str, Any] = {"task": "tabular", "features": features, "target": {"classes": classes}, "splits": {}}
    about["statistics"] = {one["name"]: {"mean": 4.0, "std": 2.0} for one in features}
    for split, rows in ROWS.items():
        columns = {one["name"]: rng.integers(0, 2, rows).astype(np.float32) for one in features}
        labels = np.where(np.arange(rows) % 4 == 0, len(classes) - 1, 0)
        table = pa.table({**columns, "label": labels, "id": np.arange(rows)})
        name = f"{split}-00000.arrow"
        with pa.OSFile(str(directory / name), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        about["splits"][split] = {"rows": rows, "files": [name]}
    (directory / "dataset.json").write_text(json.dumps(about))
    return directory


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Rows of numbers, a flag and two categories, a quarter of them `yes`."""
    return write(tmp_path, CLASSES, FEATURES)


def figures(task: Task, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
    return task.metrics((task.sums(outputs, targets).double() / int((targets >= 0).sum())).tolist())


def test_numbers_are_scaled_and_what_only_says_yes_or_no_is_not(table: Path) -> None:
    task = open_task(table, TrainConfig(), {})
    assert task.settings() == {"columns": [0, 1, 3, 2, 0]}
    inputs, _ = task.batch("train", np.arange(40))
    assert set(inputs[:, 0].tolist()) == set(inputs[:, 7].tolist()) == {-2.0, -1.5}
    assert set(inputs[:, 1:7].flatten().tolist()) == {0.0, 1.0}
    assert task.describe()["preprocessing"]["mean"] == [4.0, 0, 0, 0, 0, 0, 0, 4.0]


def test_features_that_the_schema_says_nothing_of_are_numbers(tmp_path: Path) -> None:
    features = [{"name": "x", "dtype": "float32", "shape": []}, {"name": "y", "dtype": "float32", "shape": []}]
    assert open_task(write(tmp_path, CLASSES, features), TrainConfig(), {}).settings() == {"columns": [0, 0]}


def order_of(**spec: Any) -> WorkOrder:
    given = {"kind": "train", "data": {"dataset": "d"}, **spec}
    return WorkOrder(job_id="j", kind="train", name="job", fence=1, attempt=1, spec=given, inputs={})


@pytest.mark.parametrize("model", [{"zoo": "ft-transformer"}, {"architecture": "transformer"}])
def test_the_schema_sets_the_columns_of_a_model_where_the_spec_does_not(table: Path, model: dict[str, Any]) -> None:
    recipe = make_recipe(order_of(model=model), "tabular", 1)
    assert recipe.model_config["columns"] is None
    task = open_task(table, recipe.config, recipe.model_config)
    assert fitted(recipe, task).model_config["columns"] == [0, 1, 3, 2, 0]
    own = make_recipe(order_of(model={"architecture": "mlp", "columns": [1] * 8}), "tabular", 1)
    assert fitted(own, task).model_config["columns"] == [1] * 8


def test_the_area_under_the_curve_is_that_of_all_pairs_but_for_the_width_of_a_bin(table: Path) -> None:
    task = open_task(table, TrainConfig(), {})
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 4000)
    margin = rng.normal(labels * 1.5, 2.0)
    outputs = torch.tensor(np.stack([np.zeros(4000), margin], 1), dtype=torch.float32)
    targets = torch.tensor(np.append(labels, [-100, -100]))
    outputs = torch.cat([outputs, torch.full((2, 2), 9.0)])
    found = figures(task, outputs, targets)["auc"]
    # Pairs closer than a bin count half: about the density of differences at 0 (under 0.2) times the width, at most.
    assert found == pytest.approx(roc_auc_score(labels, margin), abs=0.2 * 2 * WIDEST / BINS)


def test_the_area_decides_before_the_loss_where_there_are_two_classes(table: Path, tmp_path: Path) -> None:
    task = open_task(table, TrainConfig(), {})
    worse = {"val_auc": 0.8, "val_loss": 0.1, "val_accuracy": 0.9}
    assert task.better({"val_auc": 0.9, "val_loss": 0.5, "val_accuracy": 0.7}, worse)
    assert task.better({**worse, "val_loss": 0.05}, worse)
    (tmp_path / "three").mkdir()
    three = open_task(write(tmp_path / "three", ["a", "b", "c"], FEATURES), TrainConfig(), {})
    assert "auc" not in figures(three, torch.zeros(2, 3), torch.tensor([0, 1]))
    assert three.better({"val_accuracy": 0.9, "val_loss": 0.5}, {"val_accuracy": 0.8, "val_loss": 0.1})


@pytest.mark.parametrize(
    ("given", "weights"), [("balanced", [40 / 60, 40 / 20]), ({"yes": 5.0}, [1.0, 5.0]), (None, [1.0, 1.0])]
)
def test_errors_count_by_the_weight_of_their_class(table: Path, given: Any, weights: list[float]) -> None:
    task = open_task(table, TrainConfig(class_weights=given), {})
    outputs, targets = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1, 1])
    each = functional.cross_entropy(outputs, targets, reduction="none")
    torch.testing.assert_close(task.loss(outputs, targets), (each * torch.tensor(weights)[targets]).sum())
    assert figures(task, outputs, targets)["loss"] == pytest.approx(float(each.mean()), rel=1e-6)


def test_weights_of_a_class_that_there_is_not_are_refused(table: Path) -> None:
    with pytest.raises(InvalidInput, match="no class 'maybe'") as caught:
        open_task(table, TrainConfig(class_weights={"maybe": 2.0}), {})
    assert (caught.value.field, caught.value.accepted) == ("config.class_weights", "no, yes")


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_one_that_logits_were_multiplied_with(table: Path, true: float) -> None:
    task = open_task(table, TrainConfig(calibrate=True), {})
    torch.manual_seed(0)
    logits = torch.randn(20_000, 2) * 2
    targets = torch.multinomial(logits.softmax(1), 1).squeeze(1)
    found = figures(task, logits * true, targets)
    # The error of a maximum-likelihood estimate from so many rows is about 1.5 %.
    assert found["temperature"] == pytest.approx(true, rel=0.05)
    assert found["calibrated_loss"] <= found["loss"] + 1e-6
    expected = functional.cross_entropy(logits * true / found["temperature"], targets)
    assert found["calibrated_loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("config", [{"class_weights": "balanced"}, {"calibrate": True}])
def test_a_forecast_has_no_classes(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        make_recipe(order_of(model={"zoo": "dlinear"}, config=config), "forecasting", 1)
    assert caught.value.field == f"config.{next(iter(config))}"


def test_the_worst_rows_are_told_by_their_columns(table: Path) -> None:
    task = open_task(table, TrainConfig(), {})
    inputs, targets = task.batch("val", np.arange(12))
    outputs = torch.zeros(12, 2)
    outputs[7, 1 - targets[7]] = 5.0
    found = task.study(Seen(np.arange(12), outputs, targets))
    assert (found.examined, found.rows, found.classes) == (12, 12, CLASSES)
    assert sum(map(sum, found.confusion)) == 12
    first = found.worst[0]
    assert (first.row, first.truth) == (7, CLASSES[int(targets[7])])
    assert {"age", "hours"} <= {part.split(": ")[0] for part in first.text.split(", ")}
    jobs = [name for name, value in zip("abc", inputs[7, 2:5].tolist(), strict=True) if value]
    assert (f"job: {jobs[-1]}" in first.text) if jobs else ("job" not in first.text)
