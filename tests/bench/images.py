"""CIFAR-10, 12,000 images: accuracy through a live endpoint, beside the strongest of three simple classifiers."""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sextant import Client
from tests.bench.platforms import whole
from tests.bench.report import Report
from tests.bench.simple_classifiers import CLASSIFIERS, accuracy
from tests.data import needed

PREPARE: dict[str, Any] = {
    "kind": "prepare",
    "task": "image-classification",
    "split": {"val": 1 / 12, "test": 1 / 6},
    "register_as": "cifar10",
}
CONFIG: dict[str, Any] = {
    "epochs": 16,
    "batch_size": 128,
    "learning_rate": 0.1,
    "optimizer": "sgd",
    "weight_decay": 5e-4,
    "schedule": "one-cycle",
    "augment": {"shift": 0.125, "flip": True},
    "calibrate": True,
    "checkpoint_every_steps": 100_000,
}
MODEL = {"architecture": "resnet18", "width": 24}
QUICK_CLASSES = ("airplane", "frog", "truck")
QUICK_EPOCHS = 3
RUN_S = 3600.0


def run(report: Report) -> None:
    """Prepare all images with exact shares of each class, train on two ranks, export, deploy, evaluate."""
    file = needed("cifar10/cifar10_train10k_test2k.zip")
    with whole() as platform, platform.client() as client, tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "images"
        _unpack(file, folder, QUICK_CLASSES if report.quick else None)
        prepared = client.wait(client.submit({**PREPARE, "source": client.push(folder).uri}), timeout=600)
        rows = (prepared.outputs or {})["rows"]
        client.pull("cifar10", Path(directory) / "prepared", kind="dataset")
        splits = {split: _read(Path(directory) / "prepared", split) for split in ("train", "val", "test")}
        images, labels = (np.concatenate([splits[split][part] for split in ("train", "val")]) for part in (0, 1))
        for name in CLASSIFIERS:
            began = time.monotonic()
            report.figure(f"simple_{name}", accuracy(name, (images, labels), splits["test"]))
            report.say(f"{name}: {report.figures[f'simple_{name}']}, {time.monotonic() - began:.0f} s")
        began = time.monotonic()
        steps = _steps(client, {**CONFIG, "epochs": QUICK_EPOCHS} if report.quick else CONFIG)
        report.figure("seconds", time.monotonic() - began)
    checked = steps["check"]["metrics"]
    for key in ("accuracy", "macro_f1", "calibration_error"):
        report.figure(key, checked[key])
    strongest = max(CLASSIFIERS, key=lambda name: report.figures[f"simple_{name}"])
    report.figure("ratio", checked["accuracy"] / report.figures[f"simple_{strongest}"])
    report.note(
        f"{rows['train']} / {rows['val']} / {rows['test']} images, all {steps['check']['rows']} of test through the "
        f"endpoint; {MODEL}, {CONFIG['epochs']} epochs, shifted and mirrored, 2 ranks; the simple ones learn from "
        f"train and val together; strongest: {strongest}"
    )


def _unpack(file: Path, folder: Path, classes: tuple[str, ...] | None) -> None:
    """CLASS/FILE: the split is the platform's own."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            part, label, image = name.split("/")
            if image and (classes is None or label in classes):
                (folder / label).mkdir(parents=True, exist_ok=True)
                (folder / label / f"{part}-{image}").write_bytes(archive.read(name))


def _read(directory: Path, split: str) -> tuple[Any, Any]:
    about = json.loads((directory / "dataset.json").read_text())
    (name,) = about["splits"][split]["files"]
    table = pa.ipc.open_file(pa.memory_map(str(directory / name))).read_all().combine_chunks()
    flat = table["image"].combine_chunks()
    flat = flat.chunk(0) if isinstance(flat, pa.ChunkedArray) else flat
    shape = about["features"][0]["shape"]
    return flat.flatten().to_numpy().reshape(-1, *shape), table["label"].to_numpy()


def _steps(client: Client, config: dict[str, Any]) -> dict[str, Any]:
    job = client.submit(
        {
            "name": "cifar10",
            "steps": {
                "model": {
                    "kind": "train",
                    "data": {"dataset": "cifar10"},
                    "model": MODEL,
                    "config": config,
                    "resources": {"ranks": 2},
                },
                "served": {"kind": "export", "model": {"step": "model"}},
                "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": "cifar10"},
                "check": {"kind": "evaluate", "endpoint": {"step": "live"}, "data": {"dataset": "cifar10"}},
            },
        }
    )
    ended = client.wait(job, timeout=RUN_S)
    return {str(step.step): step.outputs or {} for step in ended.steps or []}
