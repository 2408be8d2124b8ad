"""The work of an `evaluate` job: a split through the live endpoint, scored, and held against what is required."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sextant_exporter import anomalies, detections, forecasts
from sextant_exporter.domain.metrics import Report, score, unmet
from sextant_exporter.endpoint import Endpoint, connected
from sextant_exporter.report import render
from sextant_shared.contracts.specs import EvaluateSpec
from sextant_shared.errors import InvalidInput, WorkFailed
from sextant_shared.execution.workbench import Result, Workbench

BATCH = 32
LATENCY_REQUESTS = 300
Scored = tuple[dict[str, float], dict[str, float], int]
"""Figures, latency in milliseconds, rows."""


def evaluate(bench: Workbench) -> Result:
    """Score the endpoint. Raises WorkFailed where a requirement is not met."""
    spec = EvaluateSpec.model_validate(bench.order.spec, strict=False)
    directory = Path(bench.order.input("data").path or "")
    about = json.loads((directory / "dataset.json").read_text())
    with connected(bench.order.service, str(bench.order.inputs["endpoint"])) as endpoint:
        score_split = BY_TASK.get(about["task"], _classes)
        figures, latency, rows = score_split(bench, endpoint, directory, spec.split)
    bench.progress(1.0, "scored", {**figures, **{f"{k}_ms": v for k, v in latency.items()}})
    if failures := unmet(figures, spec.require):
        raise WorkFailed("; ".join(failures))
    served = {"name": endpoint.name, "version": endpoint.version}
    return Result(outputs={"metrics": figures, "latency_ms": latency, "rows": rows, "served": served})


def _classes(bench: Workbench, endpoint: Endpoint, directory: Path, split: str) -> Scored:
    values, labels, classes = read_split(directory, split)
    logits = _predict_all(bench, endpoint, values)
    if wrong := int((~np.isfinite(logits)).any(1).sum()):
        raise WorkFailed(f"the endpoint {endpoint.name!r} answers NaN or infinity for {wrong} of {len(logits)} rows")
    latency = _latency(endpoint, values)
    if logits.shape[1] != len(classes):
        told = f"the endpoint {endpoint.name!r} tells {logits.shape[1]} classes apart"
        raise WorkFailed(f"{told}; the dataset has {len(classes)}")
    report = score(logits, labels, len(classes), endpoint.place_of_rejection)
    _write(bench, report, classes, endpoint.name, split, latency)
    return report.figures(), latency, len(labels)


def _forecasts(bench: Workbench, endpoint: Endpoint, directory: Path, split: str) -> Scored:
    about = json.loads((directory / "dataset.json").read_text())
    windows = forecasts.Windows(directory, about, split)
    errors = forecasts.measure(
        windows,
        endpoint.infer,
        lambda share: bench.progress(0.8 * share, "predicting"),
    )
    if not np.isfinite(errors.mse):
        raise WorkFailed(f"the endpoint {endpoint.name!r} answers NaN or infinity")
    latency = _latency(endpoint, windows.inputs(slice(0, LATENCY_REQUESTS)))
    forecasts.write(bench.out, errors, windows, {"endpoint": endpoint.name, "split": split}, latency)
    return errors.figures(), latency, len(windows)


def _anomalies(bench: Workbench, endpoint: Endpoint, directory: Path, split: str) -> Scored:
    about = json.loads((directory / "dataset.json").read_text())
    windows = forecasts.Windows(directory, about, split)
    labels = anomalies.labels_of(directory, about, split, windows)
    found = anomalies.measure(
        windows,
        labels,
        endpoint.infer,
        lambda share: bench.progress(0.8 * share, "predicting"),
    )
    if found is None:
        raise WorkFailed(f"the endpoint {endpoint.name!r} answers NaN or infinity")
    latency = _latency(endpoint, windows.whole(slice(0, LATENCY_REQUESTS)))
    anomalies.write(bench.out, found, {"endpoint": endpoint.name, "split": split}, latency)
    return found.figures(), latency, len(windows)


def _detections(bench: Workbench, endpoint: Endpoint, directory: Path, split: str) -> Scored:
    about = json.loads((directory / "dataset.json").read_text())
    spec = EvaluateSpec.model_validate(bench.order.spec, strict=False)
    found = detections.measure(
        directory,
        about,
        split,
        spec.iou,
        endpoint.infer_all,
        lambda share: bench.progress(0.8 * share, "predicting"),
    )
    if not all(np.isfinite(scores).all() for scores in found.scores):
        raise WorkFailed(f"the endpoint {endpoint.name!r} answers NaN or infinity")
    values, _, _ = next(detections.pictures(directory, about, split))
    latency = _latency(endpoint, values)
    detections.write(bench.out, found, {"endpoint": endpoint.name, "split": split}, latency)
    return found.figures(), latency, found.images


BY_TASK = {"forecasting": _forecasts, "anomaly-detection": _anomalies, "defect-detection": _detections}


def read_split(directory: Path, split: str) -> tuple[NDArray[Any], NDArray[np.int64], list[str]]:
    """Values as the endpoint takes them (rows, *shape), labels, class names. Raises InvalidInput for an empty split."""
    about = json.loads((directory / "dataset.json").read_text())
    names = [feature["name"] for feature in about["features"]]
    table = pa.concat_tables(
        pa.ipc.open_file(pa.memory_map(str(directory / file))).read_all() for file in about["splits"][split]["files"]
    ).combine_chunks()
    if table.num_rows == 0:
        raise InvalidInput(f"the split {split!r} is empty", field="split")
    labels = table["label"].to_numpy()
    if about["task"] == "image-classification":
        shape = about["features"][0]["shape"]
        flat = table["image"].combine_chunks()
        flat = flat.chunk(0) if isinstance(flat, pa.ChunkedArray) else flat
        values = flat.flatten().to_numpy().reshape(len(labels), *shape)
    elif about["task"] == "text-classification":
        values = np.array(table["text"].to_pylist(), np.object_)
    else:
        values = np.stack([table[name].to_numpy().astype(np.float32) for name in names], axis=1)
    return values, labels, about["target"]["classes"]


def _predict_all(bench: Workbench, endpoint: Endpoint, values: NDArray[Any]) -> NDArray[np.float32]:
    parts = []
    for start in range(0, len(values), BATCH):
        parts.append(endpoint.infer(values[start : start + BATCH]))
        bench.progress(0.8 * min(1.0, (start + BATCH) / len(values)), "predicting")
    return np.concatenate(parts)


def _latency(endpoint: Endpoint, values: NDArray[Any]) -> dict[str, float]:
    """Milliseconds of single-row requests, one at a time: median and 99th percentile."""
    taken = []
    for index in range(LATENCY_REQUESTS):
        row = index % len(values)
        began = time.perf_counter()
        endpoint.infer(values[row : row + 1])
        taken.append(1000.0 * (time.perf_counter() - began))
    return {"p50": float(np.percentile(taken, 50)), "p99": float(np.percentile(taken, 99))}


def _write(
    bench: Workbench, report: Report, classes: list[str], endpoint: str, split: str, latency: dict[str, float]
) -> None:
    body = {
        **report.figures(),
        "recall": dict(zip(classes, report.recall, strict=True)),
        "confusion": report.confusion,
        "classes": classes,
        "endpoint": endpoint,
        "split": split,
        "latency_ms": latency,
    }
    (bench.out / "report.json").write_text(json.dumps(body, indent=1, sort_keys=True))
    (bench.out / "report.html").write_text(render(report, classes, f"{endpoint}, {split} split", latency))
