"""Classification metrics from logits, and requirements on them."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 15
COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a split: shares between 0 and 1; `confusion[i][j]` counts rows of class i that were called j."""

    accuracy: float
    macro_f1: float
    log_loss: float
    recall: list[float]
    confusion: list[list[int]]
    calibration_error: float
    auc: float | None = None
    """Area under the ROC curve, where there are two classes."""
    rejection: Mapping[str, float] = field(default_factory=dict)
    """Where a class stands for rows out of scope, what that one does."""

    def figures(self) -> dict[str, float]:
        """The metrics that a requirement can name."""
        found = {
            "accuracy": self.accuracy,
            "macro_f1": self.macro_f1,
            "log_loss": self.log_loss,
            "calibration_error": self.calibration_error,
        }
        return {**found, **({} if self.auc is None else {"auc": self.auc}), **self.rejection}


def score(logits: NDArray[Any], labels: NDArray[np.int64], classes: int, outside: int | None = None) -> Report:
    """Score logits (rows, classes) against labels (rows,); the class `outside` stands for rows out of scope."""
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
        calibration_error=_calibration_error(np.exp(shifted - log_sum[:, None]), called == labels),
        auc=area_under_roc(logits[:, 1] - logits[:, 0], labels == 1) if classes == 2 else None,
        rejection={} if outside is None else _of_rejection(logits, labels, outside),
    )


def _of_rejection(logits: NDArray[Any], labels: NDArray[np.int64], outside: int) -> dict[str, float]:
    """The accuracy of rows in scope with rejections and were nothing rejected, and the share of the others found."""
    called, inside = logits.argmax(1), labels != outside
    never = logits.copy()
    never[:, outside] = -np.inf
    found: dict[str, float] = {}
    if inside.any():
        found["in_scope_accuracy"] = float((called == labels)[inside].mean())
        found["in_scope_accuracy_unrejected"] = float((never.argmax(1) == labels)[inside].mean())
    if not inside.all():
        found["oos_recall"] = float((called == outside)[~inside].mean())
    return found


def area_under_roc(scores: NDArray[Any], positive: NDArray[np.bool_]) -> float | None:
    """The share of pairs of a positive and a negative row that the scores order rightly, ties counted half.

    By ranks (Mann and Whitney, 1947); nothing where one side has no row.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[place]
    ones = int(positive.sum())
    pairs = ones * (len(scores) - ones)
    return float((ranks[positive].sum() - ones * (ones + 1) / 2) / pairs) if pairs else None


def _calibration_error(shares: NDArray[Any], right: NDArray[np.bool_]) -> float:
    """How far the largest share is from how often it is right: the mean over 15 bins of it (Guo et al., 2017)."""
    sure = shares.max(1)
    bins = np.minimum((sure * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, sure - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(sure))


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
