"""Adult census income: area under the ROC through live endpoints, beside scikit-learn's gradient boosting."""

from __future__ import annotations

import csv
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from sextant import Client
from tests.bench.platforms import whole
from tests.bench.report import Report
from tests.data import needed

COLUMNS = (
    *("age", "workclass", "fnlwgt", "education", "education_num", "marital_status", "occupation", "relationship"),
    *("race", "sex", "capital_gain", "capital_loss", "hours_per_week", "native_country", "income"),
)
NUMBERS = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
TEST_ROWS = 16_281
RUN_S = 1800.0
PREPARE: dict[str, Any] = {
    "kind": "prepare",
    "task": "tabular",
    "target": "income",
    "split": {"column": "split", "val": 0.1},
    "register_as": "adult",
}
RECIPES: dict[str, dict[str, Any]] = {
    "mlp": {
        "model": {"architecture": "mlp", "hidden": 256, "depth": 1, "dropout": 0.5, "frequencies": 48}
        | {"frequency_scale": 3.0, "embedding": 16},
        "config": {"epochs": 12, "batch_size": 256, "learning_rate": 1e-3, "weight_decay": 1e-2, "patience": 4},
    },
    "ft": {
        "model": {"architecture": "transformer", "hidden_size": 64, "num_layers": 2, "num_heads": 4}
        | {"intermediate_size": 128, "dropout": 0.1, "attention_dropout": 0.2},
        "config": {"epochs": 12, "batch_size": 256, "learning_rate": 1e-3, "weight_decay": 1e-4, "patience": 4},
    },
}
Rows = dict[str, list[list[str]]]


def run(report: Report) -> None:
    """Train each recipe with its seeds, export, deploy and evaluate; boosting learns from the same rows."""
    rows = _rows(report)
    boosted = _boosting(report, rows)
    seeds = range(1 if report.quick else 3)
    with whole() as platform, platform.client() as client, tempfile.TemporaryDirectory() as directory:
        table = Path(directory) / "adult.csv"
        _write(table, rows)
        client.wait(client.submit({**PREPARE, "source": client.push(table).uri}), timeout=120)
        for name in ("mlp",) if report.quick else RECIPES:
            began = time.monotonic()
            found = [_outputs(client, f"{name}-{seed}", RECIPES[name], seed) for seed in seeds]
            report.figure(f"{name}_seconds", (time.monotonic() - began) / len(found))
            for key in ("auc", "accuracy", "calibration_error"):
                values = [figures[key] for figures in found]
                report.figure(f"{name}_{key}", statistics.fmean(values))
                report.sample(f"{name}_{key}", values)
    report.figure("auc", max(report.figures[key] for key in report.figures if key.endswith("_auc") and key != boosted))
    report.note(
        f"all {TEST_ROWS} test rows through the endpoint; training rows that stand in the test file are left out, a "
        f"tenth of the rest is for validation, which ends the runs and sets the temperature; mean of {len(seeds)} seeds"
    )
    report.note("boosting: HistGradientBoosting, 5 settings by its loss on the same kind of tenth, then on all of it")


def _rows(report: Report) -> Rows:
    folder = needed("adult")
    found = {split: _read(folder / f"adult-{split}.csv") for split in ("train", "test")}
    seen = {tuple(row[:-1]) for row in found["test"]}
    found["train"] = [row for row in found["train"] if tuple(row[:-1]) not in seen]
    if len(found["test"]) != TEST_ROWS:
        raise SystemExit(f"there are {len(found['test'])} test rows, not {TEST_ROWS}")
    report.say(f"{len(found['train'])} rows to learn from")
    return found


def _read(file: Path) -> list[list[str]]:
    with file.open(newline="") as stream:
        rows = csv.reader(stream, skipinitialspace=True)
        return [[*row[:-1], row[-1].removesuffix(".")] for row in rows if len(row) == len(COLUMNS)]


def _write(table: Path, rows: Rows) -> None:
    with table.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow([*COLUMNS, "split"])
        out.writerows([*row, split] for split, part in rows.items() for row in part)


def _boosting(report: Report, rows: Rows) -> str:
    """The name of its figure."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GridSearchCV, ShuffleSplit

    codes: dict[str, dict[str, int]] = {name: {} for name in COLUMNS if name not in NUMBERS}

    def coded(part: list[list[str]]) -> Any:
        def one(name: str, value: str) -> float:
            return float(value) if name in NUMBERS else codes[name].setdefault(value, len(codes[name]))

        return np.array(
            [[one(name, value) for name, value in zip(COLUMNS[:-1], row[:-1], strict=True)] for row in part]
        )

    train, test = coded(rows["train"]), coded(rows["test"])
    labels = {split: np.array([row[-1] == ">50K" for row in part]) for split, part in rows.items()}
    categories = [name not in NUMBERS for name in COLUMNS[:-1]]
    began = time.monotonic()
    model = HistGradientBoostingClassifier(categorical_features=categories, random_state=0)
    settings: list[dict[str, list[Any]]] = [
        {"learning_rate": [0.1], "max_iter": [100]},
        {"learning_rate": [0.05], "max_iter": [200, 400], "max_leaf_nodes": [15, 31]},
    ]
    search = GridSearchCV(model, settings, scoring="roc_auc", cv=ShuffleSplit(1, test_size=0.1, random_state=0))
    search.fit(train, labels["train"])
    report.figure("boosting_seconds", time.monotonic() - began)
    report.figure("boosting_auc", float(roc_auc_score(labels["test"], search.predict_proba(test)[:, 1])))
    report.say(f"boosting: {search.best_params_}")
    return "boosting_auc"


def _outputs(client: Client, name: str, recipe: dict[str, Any], seed: int) -> dict[str, float]:
    train = {
        "kind": "train",
        "data": {"dataset": "adult"},
        "model": recipe["model"],
        "config": {**recipe["config"], "calibrate": True, "seed": seed, "checkpoint_every_steps": 100_000},
    }
    job = client.submit(
        {
            "name": name,
            "steps": {
                "model": train,
                "served": {"kind": "export", "model": {"step": "model"}},
                "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": name},
                "check": {"kind": "evaluate", "endpoint": {"step": "live"}, "data": {"dataset": "adult"}},
            },
        }
    )
    ended = client.wait(job, timeout=RUN_S)
    checked = {str(step.step): step.outputs or {} for step in ended.steps or []}["check"]
    if checked["rows"] != TEST_ROWS:
        raise SystemExit(f"{checked['rows']} rows were evaluated, not {TEST_ROWS}")
    return dict(checked["metrics"])
