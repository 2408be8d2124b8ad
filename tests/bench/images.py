"""CIFAR-10, 12,000 images: accuracy through a live endpoint, fine-tuned and from scratch, beside the strongest of three
simple classifiers."""

from __future__ import annotations

import json
import tempfile
import time
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sextant import Client, documents
from tests.bench.platforms import whole
from tests.bench.report import Report
from tests.bench.simple_classifiers import CLASSIFIERS, accuracy
from tests.data import needed

EXAMPLE = documents.example("photos").content
SCRATCH: dict[str, dict[str, Any]] = {
    "data": {"clean": [{"do": "deduplicate"}]},
    "train": {
        "model": {"zoo": "resnet18", "config": {"width": 24}},
        "config": {
            "epochs": 16,
            "batch_size": 128,
            "learning_rate": 0.1,
            "optimizer": "sgd",
            "weight_decay": 5e-4,
            "schedule": "one-cycle",
            "augment": {"shift": 0.125, "flip": True},
            "calibrate": True,
        },
    },
}
"""What differs from the example where a network begins with nothing."""
RECIPES: dict[str, dict[str, dict[str, Any]]] = {"from-scratch": SCRATCH, "fine-tuned": {}}
QUICK_EPOCHS = {"from-scratch": 3, "fine-tuned": 1}
QUICK_CLASSES = ("airplane", "frog", "truck")
RUN_S = 3600.0


def run(report: Report) -> None:
    """The example, and a network from scratch in its place, each prepared, trained, exported, deployed and checked."""
    file = needed("cifar10/cifar10_train10k_test2k.zip")
    with whole() as platform, platform.client() as client, tempfile.TemporaryDirectory() as directory:
        folder = Path(directory) / "images"
        _unpack(file, folder, QUICK_CLASSES if report.quick else None)
        source = client.push(folder).uri
        for name in RECIPES:
            began = time.monotonic()
            steps = _steps(client, name, source, report.quick)
            report.figure(f"seconds_{name}", time.monotonic() - began)
            checked = steps["check"]["metrics"]
            for key in ("accuracy", "macro_f1", "calibration_error"):
                report.figure(f"{key}_{name}", checked[key])
            report.say(f"{name}: {checked['accuracy']}, {report.figures[f'seconds_{name}']:.0f} s")
        client.pull("from-scratch", Path(directory) / "prepared", kind="dataset")
        splits = {split: _read(Path(directory) / "prepared", split) for split in ("train", "val", "test")}
    images, labels = (np.concatenate([splits[split][part] for split in ("train", "val")]) for part in (0, 1))
    for name in CLASSIFIERS:
        began = time.monotonic()
        report.figure(f"accuracy_{name}", accuracy(name, (images, labels), splits["test"]))
        report.say(f"{name}: {report.figures[f'accuracy_{name}']}, {time.monotonic() - began:.0f} s")
    strongest = max(CLASSIFIERS, key=lambda name: report.figures[f"accuracy_{name}"])
    for name in RECIPES:
        report.figure(f"ratio_{name}", report.figures[f"accuracy_{name}"] / report.figures[f"accuracy_{strongest}"])
    rows = steps["data"]["rows"]
    report.note(
        f"{rows['train']} / {rows['val']} / {rows['test']} images, all {steps['check']['rows']} of test through the "
        f"endpoint, 2 ranks; the simple ones learn from train and val together; strongest: {strongest}"
    )
    report.note("fine-tuned is `sextant example photos`: it begins with weights of ImageNet, and sees 112 x 112 pixels")
    report.note(f"from-scratch, and the simple ones, see 32 x 32: {SCRATCH['train']['model']}")


def _unpack(file: Path, folder: Path, classes: tuple[str, ...] | None) -> None:
    """SPLIT/CLASS/FILE; a part of train becomes validation."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            part, label, image = name.split("/")
            if image and (classes is None or label in classes):
                (folder / part / label).mkdir(parents=True, exist_ok=True)
                (folder / part / label / image).write_bytes(archive.read(name))


def _read(directory: Path, split: str) -> tuple[Any, Any]:
    about = json.loads((directory / "dataset.json").read_text())
    (name,) = about["splits"][split]["files"]
    table = pa.ipc.open_file(pa.memory_map(str(directory / name))).read_all().combine_chunks()
    flat = table["image"].combine_chunks()
    flat = flat.chunk(0) if isinstance(flat, pa.ChunkedArray) else flat
    shape = about["features"][0]["shape"]
    return flat.flatten().to_numpy().reshape(-1, *shape), table["label"].to_numpy()


def _steps(client: Client, name: str, source: str, quick: bool) -> dict[str, Any]:
    content, changes = deepcopy(({**EXAMPLE, "name": name}, RECIPES[name]))
    steps = content["steps"]
    for step in changes:
        steps[step] |= changes[step]
    steps["data"] |= {"source": source, "register_as": name}
    steps["train"]["config"]["checkpoint_every_steps"] = 100_000
    steps["serve"]["endpoint"] = name
    if quick:
        steps["train"]["config"]["epochs"] = QUICK_EPOCHS[name]
        del steps["check"]["require"]
    ended = client.wait(client.submit(content), timeout=RUN_S)
    return {str(step.step): step.outputs or {} for step in ended.steps or []}
