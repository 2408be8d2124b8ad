"""Evaluating anomaly detection: every window of a split through the endpoint, and which of them it calls anomalies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sextant_exporter.domain.metrics import area_under_roc
from sextant_exporter.forecasts import BATCH, Ask, Windows, read_series
from sextant_exporter.report import page


@dataclass(frozen=True, slots=True)
class Found:
    """Windows by what they are and what they were called: an anomaly where the score is over 1."""

    true_positives: int
    false_positives: int
    false_negatives: int
    windows: int
    auc: float | None

    def figures(self) -> dict[str, float]:
        """The metrics that a requirement can name."""
        called, real = self.true_positives + self.false_positives, self.true_positives + self.false_negatives
        figures = {
            "f1": 2 * self.true_positives / max(1, called + real),
            "precision": self.true_positives / max(1, called),
            "recall": self.true_positives / max(1, real),
        }
        return figures if self.auc is None else {**figures, "auc": self.auc}


def measure(windows: Windows, labels: NDArray[np.bool_], ask: Ask, say: Callable[[float], None]) -> Found | None:
    """Ask for every window; none where the endpoint answered no number."""
    parts = []
    for start in range(0, len(windows), BATCH):
        parts.append(ask(windows.whole(slice(start, start + BATCH)))[:, 0])
        say(min(1.0, (start + BATCH) / len(windows)))
    scores = np.concatenate(parts)
    if not np.isfinite(scores).all():
        return None
    called = scores > 1.0
    hits, wrong, missed = (int(n.sum()) for n in (called & labels, called & ~labels, ~called & labels))
    return Found(hits, wrong, missed, len(labels), area_under_roc(scores, labels))


def labels_of(directory: Path, about: dict[str, Any], split: str, windows: Windows) -> NDArray[np.bool_]:
    """Whether the last row of each window is an anomaly."""
    chosen = about["splits"][split]
    end = chosen["end"]
    column = read_series(directory, chosen["files"], "anomaly")[:end]
    return column[end - len(windows) :].astype(bool)


def write(out: Path, found: Found, title: dict[str, str], latency: dict[str, float]) -> None:
    """report.json and report.html."""
    body = {**found.figures(), **asdict(found), "latency_ms": latency, **title}
    (out / "report.json").write_text(json.dumps(body, indent=1, sort_keys=True))
    counts = (
        ("anomalies that were found", found.true_positives),
        ("anomalies that were missed", found.false_negatives),
        ("false alarms", found.false_positives),
        ("windows", found.windows),
    )
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{count:,}</td></tr>" for name, count in counts)
    figures = {**found.figures(), **{f"latency {name} (ms)": value for name, value in latency.items()}}
    below = f"<h2>Windows</h2><p>One is an anomaly where its last row is.</p><table>{rows}</table>"
    (out / "report.html").write_text(page(f"{title['endpoint']}, {title['split']} split", figures, below))
