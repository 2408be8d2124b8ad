"""ETTh1, 96 hours ahead: errors through live endpoints over every test window, means of five seeds."""

from __future__ import annotations

import statistics
from typing import Any

from sextant import Client
from tests.bench.platforms import whole
from tests.bench.report import Report
from tests.data import needed

MONTH = 30 * 24
PREPARE: dict[str, Any] = {
    "kind": "prepare",
    "task": "forecasting",
    "split": {"time": "date", "rows": [12 * MONTH, 4 * MONTH, 4 * MONTH]},
    "window": {"input": 336, "horizon": 96},
    "register_as": "etth1",
}
CONFIG: dict[str, Any] = {"epochs": 10, "batch_size": 32, "learning_rate": 5e-4, "checkpoint_every_steps": 100_000}
RUN_S = 900.0
WINDOWS = 2785
"""Of the test split, the last one included: 2,880 rows less 96 and one more."""


def run(report: Report) -> None:
    """One pipeline a seed, two of them at a time: train, export, deploy, evaluate."""
    file = needed("ett/ETTh1.csv")
    seeds = range(1 if report.quick else 5)
    with whole() as platform, platform.client() as client:
        source = client.push(file).uri
        client.wait(client.submit({**PREPARE, "source": source}), timeout=60)
        jobs = [client.submit(_pipeline(seed)) for seed in seeds]
        found = [_outputs(client, job) for job in jobs]
    for key in ("mse", "mae", "naive_mse", "val_mse"):
        values = [figures[key] for figures in found]
        report.figure(key, statistics.fmean(values))
        report.sample(key, values)
    report.figure("mse_worst", max(figures["mse"] for figures in found))
    report.note(
        f"DLinear, each window less its mean, {CONFIG['epochs']} epochs, the best by validation; input 336, standard "
        f"borders (12, 4 and 4 months) and scaling; all {WINDOWS} test windows through the endpoint; the mean of "
        f"{len(found)} seeds"
    )
    report.note("published, of DLinear: mse 0.375, mae 0.399; of PatchTST: 0.370, 0.400")


def _pipeline(seed: int) -> dict[str, Any]:
    name = f"etth1-{seed}"
    train = {
        "kind": "train",
        "data": {"dataset": "etth1"},
        "model": {"zoo": "dlinear", "config": {"normalise": True}},
        "config": {**CONFIG, "seed": seed},
    }
    return {
        "name": name,
        "steps": {
            "model": train,
            "served": {"kind": "export", "model": {"step": "model"}},
            "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": name},
            "check": {"kind": "evaluate", "endpoint": {"step": "live"}, "data": {"dataset": "etth1"}},
        },
    }


def _outputs(client: Client, job: Any) -> dict[str, float]:
    ended = client.wait(job, timeout=RUN_S)
    steps = {step.step: step.outputs or {} for step in ended.steps or []}
    if steps["check"]["rows"] != WINDOWS:
        raise SystemExit(f"{steps['check']['rows']} windows were evaluated, not {WINDOWS}")
    return {**steps["model"]["metrics"], **steps["check"]["metrics"]}
