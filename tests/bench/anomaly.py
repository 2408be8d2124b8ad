"""NAB, known causes: F1 over the rows of the last part of each series, beside the strongest of six simple detectors."""

from __future__ import annotations

import csv
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.platforms import whole
from tests.bench.report import Report
from tests.bench.simple_detectors import DETECTORS, Rows, Values, f1_of, smoothed, threshold
from tests.data import needed

SHARES = (0.4, 0.3)
"""Of the rows for training and validation."""
DAYS = (0.5, 1.0, 2.0)
"""Scores are means over the rows of as many days, which validation chooses."""
LEAST_DAYS = 5
"""Of training; a series with fewer has no normal windows that are long enough."""
QUICK = ("nyc_taxi",)
CONFIG: dict[str, Any] = {"epochs": 10, "batch_size": 64, "learning_rate": 1e-3, "checkpoint_every_steps": 100_000}
RUN_S = 1800.0


@dataclass(frozen=True, slots=True)
class Series:
    """A file of NAB: values and labels in the order of time, each time once."""

    name: str
    times: list[str]
    values: Values
    anomaly: Rows
    day: int
    """Rows of a day."""

    @property
    def sizes(self) -> list[int]:
        """Rows of train, val and test."""
        train, val = (int(share * len(self.times)) for share in SHARES)
        return [train, val, len(self.times) - train - val]


def run(report: Report) -> None:
    """Each series by jobs of the platform, and by the simple detectors, with the same splits and threshold rule."""
    folder = needed("nab")
    found = [one for one in _series(folder) if one.anomaly[sum(one.sizes[:2]) :].any()]
    found = [one for one in found if one.sizes[0] >= LEAST_DAYS * one.day]
    chosen = [one for one in found if one.name in QUICK] if report.quick else found
    days = (1.0,) if report.quick else DAYS
    simple = {name: _simple(name, chosen, days) for name in DETECTORS}
    strongest = max(simple, key=lambda name: simple[name])
    began = time.monotonic()
    ours = _platform(report, chosen, days)
    report.figure("seconds", time.monotonic() - began)
    report.figure("f1", statistics.fmean(ours.values()))
    report.sample("f1", list(ours.values()))
    for name, value in simple.items():
        report.figure(f"simple_{name}", value)
    report.figure("ratio", report.figures["f1"] / max(1e-9, simple[strongest]))
    report.note(f"the mean over {', '.join(ours)}; strongest simple detector on the test parts: {strongest}")
    report.note(
        "rows 40 % train, 30 % validation, 30 % test, in time; a row is an anomaly within NAB's windows, and no row is "
        "adjusted to its neighbours; thresholds by F1 on validation, where it has no anomaly the largest score there; "
        f"means over {', '.join(f'{one:g}' for one in days)} days, chosen by the F1 of all validation parts"
    )


def _series(folder: Path) -> list[Series]:
    windows = json.loads((folder / "labels" / "combined_windows.json").read_text())
    found = []
    for file in sorted((folder / "realKnownCause").glob("*.csv")):
        with file.open(newline="") as stream:
            rows = dict(list(csv.reader(stream))[1:])
        times = sorted(rows)
        moments = np.array(times, "datetime64[s]")
        spans = [[np.datetime64(edge) for edge in span] for span in windows[f"realKnownCause/{file.name}"]]
        anomaly = np.any([(moments >= begin) & (moments <= end) for begin, end in spans], axis=0)
        step = float(np.median(np.diff(moments).astype(float)))
        values = np.array([float(rows[at]) for at in times])
        found.append(Series(file.stem, times, values, anomaly, round(86_400 / step)))
    return found


def _simple(name: str, chosen: list[Series], days: tuple[float, ...]) -> float:
    """The mean F1 of a detector on the test parts."""
    by_length: dict[float, list[tuple[float | None, float]]] = {}
    for one in chosen:
        train, val, _ = one.sizes
        scores = DETECTORS[name](one.values, one.anomaly, train, one.day)
        for length in days:
            mean = smoothed(scores, round(one.day * length))
            over, f1 = threshold(mean[train : train + val], one.anomaly[train : train + val])
            tested = f1_of(mean[train + val :], one.anomaly[train + val :], over)
            by_length.setdefault(length, []).append((f1, tested))
    return statistics.fmean(tested for _, tested in by_length[_best(by_length)])


def _best(by_length: dict[float, list[tuple[float | None, float]]]) -> float:
    """With the best F1 on the validation parts that have anomalies."""
    means = {
        length: statistics.fmean([f1 for f1, _ in of if f1 is not None] or [0.0]) for length, of in by_length.items()
    }
    return max(means, key=lambda length: means[length])


def _platform(report: Report, chosen: list[Series], days: tuple[float, ...]) -> dict[str, float]:
    by_length: dict[float, list[tuple[float | None, float]]] = {}
    with whole() as platform, platform.client() as client, tempfile.TemporaryDirectory() as directory:
        jobs = {}
        for one in chosen:
            table = Path(directory) / f"{one.name}.csv"
            _write(table, one)
            source = client.push(table).uri
            for length in days:
                jobs[one.name, length] = client.submit(_pipeline(one, source, length))
        for (name, length), job in jobs.items():
            ended = client.wait(job, timeout=RUN_S)
            steps = {str(step.step): (step.outputs or {}).get("metrics", {}) for step in ended.steps or []}
            by_length.setdefault(length, []).append((steps["model"].get("val_f1"), steps["check"]["f1"]))
            report.say(f"{name}, {length:g} days: {steps['check']}")
    best = _best(by_length)
    report.figure("smooth_days", best)
    return {one.name: tested for one, (_, tested) in zip(chosen, by_length[best], strict=True)}


def _write(table: Path, one: Series) -> None:
    with table.open("w", newline="") as stream:
        out = csv.writer(stream)
        out.writerow(["time", "value", "anomaly"])
        for at, value, anomaly in zip(one.times, one.values, one.anomaly, strict=True):
            out.writerow([datetime.fromisoformat(at).isoformat(), value, int(anomaly)])


def _pipeline(one: Series, source: str, days: float) -> dict[str, Any]:
    name = f"{one.name.replace('_', '-')[:40]}-{days:g}"
    return {
        "name": name,
        "steps": {
            "data": {
                "kind": "prepare",
                "source": source,
                "task": "anomaly-detection",
                "target": "anomaly",
                "split": {"time": "time", "rows": one.sizes},
                "window": {"input": one.day // 4, "horizon": round(one.day * days)},
            },
            "model": {
                "kind": "train",
                "data": {"step": "data"},
                "model": {"zoo": "dlinear"},
                "config": CONFIG,
            },
            "served": {"kind": "export", "model": {"step": "model"}},
            "live": {"kind": "deploy", "model": {"step": "served"}, "endpoint": name},
            "check": {"kind": "evaluate", "endpoint": {"step": "live"}, "data": {"step": "data"}},
        },
    }
