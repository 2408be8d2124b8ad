"""Figures of a detector from sums: boxes that are right and wrong are counted in narrow bins of their logit."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_shared.detections import average_precision, best_f1, match
from sextant_zoo.detecting import decode

BINS, LOWEST, HIGHEST = 512, -8.0, 8.0
"""A bin is a 32nd of a logit wide; what is under the lowest is no detection."""


def width(classes: int) -> int:
    """How many numbers `counts` gives."""
    return 2 * classes * BINS + classes + BINS + 1


def counts(outputs: Tensor, targets: Tensor, size: tuple[int, int], iou: float) -> Tensor:
    """Of pictures together: right and wrong boxes by class and bin, real boxes by class, and of the pictures that have
    none how many there are, by the bin of their surest box, with one for those without any."""
    classes = outputs.shape[1] - 4
    by_bin = np.zeros((2, classes, BINS))
    real, blank = np.zeros(classes), np.zeros(BINS + 1)
    found = [part.cpu().numpy() for part in decode(outputs.float(), size)]
    for boxes, logits, called, wanted in zip(*found, targets.cpu().numpy(), strict=True):
        there = wanted[wanted[:, 4] >= 0]
        labels = there[:, 4].astype(np.int64)
        kept = logits >= LOWEST
        bins = bins_of(logits[kept])
        right = match(boxes[kept], called[kept], there[:, :4], labels, iou) >= 0
        np.add.at(by_bin, (np.where(right, 0, 1), called[kept], bins), 1)
        real += np.bincount(labels, minlength=classes)
        if not len(there):
            blank[bins.max(initial=-1) + 1] += 1
    return torch.from_numpy(np.concatenate([by_bin.ravel(), real, blank]))


def bins_of(logits: NDArray[np.floating]) -> NDArray[np.int64]:
    """From 0 for the lowest."""
    return ((logits - LOWEST) * (BINS / (HIGHEST - LOWEST))).astype(np.int64).clip(0, BINS - 1)


def figures(sums: NDArray[np.float64], classes: int) -> dict[str, float]:
    """`mean_ap` over the classes that there are; at the `threshold` with the best F1, `f1`, `precision`, `recall`, and,
    where pictures have no box, `false_detection_rate`, the share of these with any."""
    by_bin = sums[: 2 * classes * BINS].reshape(2, classes, BINS)[:, :, ::-1]
    real, blank = np.split(sums[2 * classes * BINS :], [classes])
    there = np.flatnonzero(real)
    precisions = [average_precision(by_bin[0, c], by_bin[1, c], real[c]) for c in there]
    best = best_f1(by_bin[0].sum(0), by_bin[1].sum(0), real.sum())
    first = BINS - 1 - best.place
    edge = LOWEST + first * (HIGHEST - LOWEST) / BINS
    found = {
        "mean_ap": float(np.mean(precisions)) if precisions else 0.0,
        "f1": best.f1,
        "precision": best.precision,
        "recall": best.recall,
        "threshold": float(1 / (1 + np.exp(-edge))),
    }
    if blank.sum():
        found["false_detection_rate"] = float(blank[first + 1 :].sum() / blank.sum())
    return found
