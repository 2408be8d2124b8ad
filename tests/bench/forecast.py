"""ETTh1, 96 hours ahead: errors through live endpoints over every test window, means of five seeds."""

from __future__ import annotations

import statistics
from typing import Any

from sextant import Client, documents
from tests.bench.platforms import whole
from tests.bench.report import Report
from tests.data import needed

RUN_S = 900.0
WINDOWS = 2785
"""Of the test split, the last one included: 2,880 rows less 96 and one more."""


def run(report: Report) -> None:
    """The example, once a seed, two of them at a time: prepare, train, export, deploy, evaluate."""
    file = needed("ett/ETTh1.csv")
    seeds = range(1 if report.quick else 5)
    with whole() as platform, platform.client() as client:
        source = client.push(file).uri
        jobs = [client.submit(_pipeline(source, seed)) for seed in seeds]
        found = [_outputs(client, job) for job in jobs]
    for key in ("mse", "mae", "naive_mse", "val_mse"):
        values = [figures[key] for figures in found]
        report.figure(key, statistics.fmean(values))
        report.sample(key, values)
    epochs = documents.example("forecast").content["steps"]["train"]["config"]["epochs"]
    report.figure("mse_worst", max(figures["mse"] for figures in found))
    report.note(
        f"`sextant example forecast`: DLinear, each window less its mean, {epochs} epochs, the best by validation; "
        f"input 336, standard borders (12, 4 and 4 months) and scaling; all {WINDOWS} test windows through the "
        f"endpoint; the mean of {len(found)} seeds"
    )
    report.note("published, of DLinear: mse 0.375, mae 0.399; of PatchTST: 0.370, 0.400")


def _pipeline(source: str, seed: int) -> dict[str, Any]:
    """The example, with a seed and an endpoint of its own."""
    spec = documents.example("forecast").content
    spec["name"] = spec["steps"]["serve"]["endpoint"] = f"etth1-{seed}"
    spec["steps"]["data"].update(source=source, register_as="etth1")
    spec["steps"]["train"]["config"].update(seed=seed, checkpoint_every_steps=100_000)
    return spec


def _outputs(client: Client, job: Any) -> dict[str, float]:
    ended = client.wait(job, timeout=RUN_S)
    steps = {step.step: step.outputs or {} for step in ended.steps or []}
    if steps["check"]["rows"] != WINDOWS:
        raise SystemExit(f"{steps['check']['rows']} windows were evaluated, not {WINDOWS}")
    return {**steps["train"]["metrics"], **steps["check"]["metrics"]}
