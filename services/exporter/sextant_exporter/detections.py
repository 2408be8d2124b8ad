"""Detectors: what is served of one, whether an export of it agrees, and the figures of an evaluation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sextant_exporter.report import page
from sextant_shared.detections import Boxes, average_precision, best_f1, match
from sextant_zoo import check
from sextant_zoo.detecting import MOST, all_boxes, decode

TASK = "defect-detection"
BATCH = 8
"""Images a request."""
CALLED = 0.5
"""A score from which on a box counts as found."""
EMPTY = 1e-6
"""Scores up to it are those of no box."""
NEAR = 0.1
"""Pixels and shares of a score within which two boxes are the same."""
Found = Sequence[NDArray[Any]]
"""Boxes (batch, n, 4), scores and classes (batch, n)."""
Ask = Callable[[NDArray[Any]], Found]


class ServedDetections(nn.Module):
    """A detector whose scores are 0.5 at the threshold that was the best on validation."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, about: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.size = (about["input"]["shape"][1], about["input"]["shape"][2])
        threshold = min(max(about.get("threshold", CALLED), 1e-6), 1 - 1e-6)
        self.middle = math.log(threshold / (1 - threshold))
        form = (-1, 1, 1)
        self.register_buffer("mean", torch.tensor(about["preprocessing"]["mean"], dtype=torch.float32).reshape(form))
        self.register_buffer("std", torch.tensor(about["preprocessing"]["std"], dtype=torch.float32).reshape(form))

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, channels, height, width) as stored -> boxes (batch, n, 4), scores and classes (batch, n)."""
        boxes, logits, classes = decode(self.maps(values), self.size)
        return boxes, (logits - self.middle).sigmoid(), classes

    def maps(self, values: Tensor) -> Tensor:
        """What the detector gives before boxes are made of it."""
        made: Tensor = self.model((values.to(torch.float32) - self.mean) / self.std)
        return made


def outputs(about: dict[str, Any]) -> list[dict[str, Any]]:
    """As the protocol describes them."""
    architecture = about["architecture"]
    stride = check(architecture["zoo"], architecture["config"]).model_dump()["stride"]
    count = min(MOST, math.prod(side // stride for side in about["input"]["shape"][1:]))
    return [
        {"name": "boxes", "datatype": "FP32", "shape": [-1, count, 4]},
        {"name": "scores", "datatype": "FP32", "shape": [-1, count]},
        {"name": "classes", "datatype": "INT64", "shape": [-1, count]},
    ]


def differences(served: nn.Module, values: Tensor, got: Found) -> tuple[float, int]:
    """How far each exported box is from the nearest cell of the original's maps, in score or in shares of the image;
    and the images in which a box that counts as found has no counterpart.

    Which of two cells that are as good as alike is the peak is for rounding to say: so all of them are compared with.
    """
    assert isinstance(served, ServedDetections)  # noqa: S101 - for the checker of types
    with torch.no_grad():
        expected = [part.numpy() for part in served(values)]
        maps = served.maps(values)
        cells = all_boxes(maps, served.size).flatten(2).transpose(1, 2).numpy()
        scores = (maps[:, :-4].amax(1) - served.middle).sigmoid().flatten(1).numpy()
    limit = np.array([served.size[1], served.size[0]] * 2, np.float32)
    apart = 0.0
    for boxes, sure, near, likely in zip(got[0], got[1], cells.clip(0, limit), scores, strict=True):
        there = sure > EMPTY
        by_box = np.abs((boxes[there][:, None] - near[None]) / limit).max(-1, initial=0.0)
        by_score = np.abs(sure[there][:, None] - likely[None])
        apart = max(apart, float(np.maximum(by_box, by_score).min(1).max(initial=0.0)))
    return apart, without_counterpart(expected, got) + without_counterpart(got, expected)


def without_counterpart(one: Found, other: Found) -> int:
    """Images in which a box that surely counts is not among the other ones."""
    missing = 0
    for boxes, scores, classes, their_boxes, their_scores, their_classes in zip(*one, *other, strict=True):
        sure = scores >= CALLED + NEAR
        same = np.abs(boxes[sure][:, None] - their_boxes[None]).max(-1, initial=0.0) < NEAR
        same &= np.abs(scores[sure][:, None] - their_scores[None]) < NEAR
        same &= classes[sure][:, None] == their_classes[None]
        missing += not same.any(1).all()
    return missing


@dataclass(slots=True)
class Scores:
    """What was found in a split."""

    classes: list[str]
    iou: float
    images: int = 0
    blank: int = 0
    """Images without a box."""
    alarms: int = 0
    """Those of them in which one was found."""
    scores: list[NDArray[Any]] = field(default_factory=list)
    called: list[NDArray[Any]] = field(default_factory=list)
    right: list[NDArray[Any]] = field(default_factory=list)
    real: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, found: Found, boxes: Sequence[Boxes], labels: Sequence[NDArray[np.int64]]) -> None:
        """What was found in some images, and what is there."""
        if not len(self.real):
            self.real = np.zeros(len(self.classes), np.int64)
        for of, scores, called, real, label in zip(*found, boxes, labels, strict=True):
            order = np.argsort(-scores, kind="stable")
            self.scores.append(scores[order])
            self.called.append(called[order])
            self.right.append(match(of[order], called[order], real, label, self.iou) >= 0)
            self.real += np.bincount(label, minlength=len(self.classes))
            self.images += 1
            if not len(label):
                self.blank += 1
                self.alarms += bool((scores >= CALLED).any())

    def by_class(self) -> dict[str, float]:
        """The average precision of each class that there is."""
        _, called, right = self._ranked()
        return {
            name: average_precision(right[called == number], ~right[called == number], float(self.real[number]))
            for number, name in enumerate(self.classes)
            if self.real[number]
        }

    def figures(self) -> dict[str, float]:
        """The metrics that a requirement can name; F1, precision and recall of the boxes that count as found."""
        scores, _, right = self._ranked()
        kept = scores >= CALLED
        hits, real = int(right[kept].sum()), int(self.real.sum())
        found = {
            "mean_ap": float(np.mean(list(self.by_class().values()))) if real else 0.0,
            "f1": 2 * hits / max(1, int(kept.sum()) + real),
            "precision": hits / max(1, int(kept.sum())),
            "recall": hits / max(1, real),
            "best_f1": best_f1(right, ~right, float(real)).f1,
        }
        return {**found, "false_detection_rate": self.alarms / self.blank} if self.blank else found

    def _ranked(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Scores, classes and whether a box is right, of all images together, by falling score."""
        scores, called, right = (np.concatenate(part) for part in (self.scores, self.called, self.right))
        order = np.argsort(-scores, kind="stable")
        return scores[order], called[order], right[order]


def pictures(
    directory: Path, about: dict[str, Any], split: str
) -> Iterator[tuple[NDArray[Any], list[Boxes], list[Any]]]:
    """Images (n, *shape) of a split as the endpoint takes them, with boxes (m, 4) and classes (m,) of each."""
    shape = about["features"][0]["shape"]
    for file in about["splits"][split]["files"]:
        with pa.memory_map(str(directory / file)) as source:
            reader = pa.ipc.open_file(source)
            for number in range(reader.num_record_batches):
                whole = reader.get_batch(number)
                for start in range(0, whole.num_rows, BATCH):
                    part = whole.slice(start, BATCH)
                    values = part.column("image").flatten().to_numpy().reshape(-1, *shape)
                    boxes = [np.array(row.as_py(), np.float32).reshape(-1, 4) for row in part.column("boxes")]
                    labels = [np.array(row.as_py(), np.int64) for row in part.column("classes")]
                    yield values, boxes, labels


def measure(
    directory: Path, about: dict[str, Any], split: str, iou: float, ask: Ask, say: Callable[[float], None]
) -> Scores:
    """Ask for every image of a split."""
    found, total = Scores(about["target"]["classes"], iou), about["splits"][split]["rows"]
    for values, boxes, labels in pictures(directory, about, split):
        found.add(ask(values), boxes, labels)
        say(found.images / total)
    return found


def write(out: Path, found: Scores, title: dict[str, str], latency: dict[str, float]) -> None:
    """report.json and report.html."""
    by_class = found.by_class()
    counts = {"images": found.images, "boxes": int(found.real.sum()), "images without a box": found.blank}
    body = {**found.figures(), "average_precision": by_class, "iou": found.iou, "counts": counts}
    (out / "report.json").write_text(json.dumps({**body, "latency_ms": latency, **title}, indent=1, sort_keys=True))
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{value:,}</td></tr>" for name, value in counts.items())
    precisions = "".join(f"<tr><th>{escape(name)}</th><td>{value:.4f}</td></tr>" for name, value in by_class.items())
    below = (
        f"<h2>Average precision by class</h2><p>A box is found where it overlaps by {found.iou:g} (intersection over "
        f"union).</p><table>{precisions}</table><h2>Counts</h2><table>{rows}</table>"
    )
    figures = {**found.figures(), **{f"latency {name} (ms)": value for name, value in latency.items()}}
    (out / "report.html").write_text(page(f"{title['endpoint']}, {title['split']} split", figures, below))
