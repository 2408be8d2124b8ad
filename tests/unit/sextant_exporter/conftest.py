"""Trained models as the trainer writes them, and a workbench whose events go to a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sextant_exporter import exporting
from sextant_shared.execution.workbench import Result, Workbench, WorkOrder
from sextant_zoo import build

MakeBench = Callable[..., Workbench]


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model version: its directory and description."""

    directory: Path
    about: dict[str, Any]
    model: nn.Module

    @property
    def record(self) -> dict[str, Any]:
        """As an order names it."""
        return {"id": "m", "name": "net", "version": 2, "digest": "x", "path": str(self.directory), "meta": {}}


@dataclass(frozen=True, slots=True)
class Exported:
    """What an `export` job made of a trained model."""

    trained: Trained
    out: Path
    result: Result


def _trained(
    directory: Path,
    zoo: str,
    config: dict[str, Any],
    given: dict[str, Any],
    task: str,
    more: dict[str, Any] | None = None,
) -> Trained:
    directory.mkdir()
    torch.manual_seed(0)
    model = build(zoo, config, tuple(given["shape"]), 3).eval()
    for name, buffer in model.named_buffers():
        # Running statistics as training leaves them: not those of a fresh model, which fold away.
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    channels = given["shape"][0]
    about = {
        "format": "safetensors",
        "architecture": {"zoo": zoo, "config": config},
        "task": task,
        "input": {"name": "input", **given},
        "preprocessing": {"mean": [20.0 + c for c in range(channels)], "std": [30.0 + c for c in range(channels)]},
        "classes": ["a", "b", "c"],
        "metrics": {"val_accuracy": 0.5},
        **(more or {}),
    }
    (directory / "model.json").write_text(json.dumps(about))
    save_file(model.state_dict(), str(directory / "model.safetensors"))
    return Trained(directory, about, model)


def _cnn(directory: Path) -> Trained:
    config = {"channels": 4, "depth": 2, "hidden": 8, "dropout": 0.2}
    return _trained(directory, "small-cnn", config, {"shape": [2, 8, 8], "dtype": "uint8"}, "image-classification")


def _mlp(directory: Path) -> Trained:
    config = {"hidden": 8, "depth": 2, "dropout": 0.1}
    return _trained(directory, "mlp", config, {"shape": [5], "dtype": "float32"}, "tabular")


def _table(directory: Path) -> Trained:
    config = {"hidden": 8, "depth": 1, "dropout": 0.1, "frequencies": 4, "columns": [0, 2, 0, 1]}
    return _trained(directory, "mlp", config, {"shape": [5], "dtype": "float32"}, "tabular", {"temperature": 2.5})


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """exported("cnn"): images of two channels, stored as bytes; exported("mlp"): tables of five columns;
    exported("table"): tables whose numbers are embedded, calibrated.

    Exported once, since that takes seconds; nothing may change the files.
    """

    @cache
    def export(name: str) -> Exported:
        directory = tmp_path_factory.mktemp(name)
        trained = {"cnn": _cnn, "mlp": _mlp, "table": _table}[name](directory / "trained")
        spec = {"model": {"model": "net@2"}, "register_as": "served"}
        with _workbench(directory, "export", {"model": trained.record}, {}, spec) as bench:
            return Exported(trained, bench.out, exporting.export(bench))

    return export


@contextmanager
def _workbench(
    directory: Path, kind: str, inputs: dict[str, Any], service: dict[str, str], spec: dict[str, Any]
) -> Iterator[Workbench]:
    (directory / "out").mkdir(parents=True)
    order = WorkOrder(job_id="j", kind=kind, name="job", fence=1, attempt=1, spec=spec, inputs=inputs, service=service)
    descriptor = os.open(directory / "events", os.O_WRONLY | os.O_CREAT)
    yield Workbench(directory, order, descriptor)
    os.close(descriptor)


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[MakeBench]:
    """Makes a job's workbench: make_bench(kind, inputs, service={}, **spec)."""
    with ExitStack() as stack:

        def make(kind: str, inputs: dict[str, Any], service: dict[str, str] | None = None, **spec: Any) -> Workbench:
            return stack.enter_context(_workbench(tmp_path / "work", kind, inputs, service or {}, spec))

        yield make
