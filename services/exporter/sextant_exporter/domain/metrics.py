"""Classification metrics from logits, and requirements on them."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a split: shares between 0 and 1; `confusion[i][j]` counts rows of class i that were called j."""

    accuracy: float
    macro_f1: float
    log_loss: float
    recall: list[float]
    confusion: list[list[int]]

    def figures(self) -> dict[str, float]:
        """The metrics that a requirement can name."""
        return {"accuracy": self.accuracy, "macro_f1": self.macro_f1, "log_loss": self.log_loss}


def score(logits: NDArray[Any], labels: NDArray[np.int64], classes: int) -> Report:
    """Score logits (rows, classes) against labels (rows,)."""
    called = logits.argmax(1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, called), 1)
    right = np.diag(confusion).astype(float)
    actual, predicted = confusion.sum(1), confusion.sum(0)
    recall = right / np.maximum(1, actual)
    f1 = 2 * right / np.maximum(1, actual + predicted)
    shifted = logits - logits.max(1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(1))
    losses = log_sum - shifted[np.arange(len(labels)), labels]
    return Report(
        accuracy=float(right.sum() / len(labels)),
        macro_f1=float(f1[actual > 0].mean()),
        log_loss=float(losses.mean()),
        recall=recall.tolist(),
        confusion=confusion.tolist(),
    )


def unmet(figures: Mapping[str, float], require: Mapping[str, str]) -> list[str]:
    """The requirements that do not hold, in words; one on an unknown metric does not hold either."""
    failures = []
    for metric, condition in require.items():
        match = re.match(r"(>=|<=|>|<)\s*(-?[0-9.]+)$", condition)
        if metric not in figures:
            failures.append(f"{metric} {condition}: there is no such metric, only {', '.join(sorted(figures))}")
        elif match and not COMPARE[match[1]](figures[metric], float(match[2])):
            failures.append(f"{metric} is {figures[metric]:.4f}, required {condition}")
    return failures
