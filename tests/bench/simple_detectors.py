"""Simple detectors of anomalies in a series: a score for each row, and the threshold rule of the product."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Rows = NDArray[np.bool_]
Detector = Callable[[Values, Rows, int, int], Values]
"""Takes values, labelled rows, the rows of training, and those of a day; the score of each row."""


def _far_from_mean(values: Values, anomaly: Rows, train: int, day: int) -> Values:
    seen = values[:train]
    far: Values = np.square((values - seen.mean()) / (seen.std() or 1.0))
    return far


def _far_from_day(values: Values, anomaly: Rows, train: int, day: int) -> Values:
    mean = smoothed(values, day)
    deviation = np.sqrt(np.maximum(smoothed(values**2, day) - mean**2, 1e-12))
    return np.square((values - mean) / deviation)


def _step(values: Values, anomaly: Rows, train: int, day: int) -> Values:
    return np.square(np.diff(values, prepend=values[0]))


def _unlike_yesterday(values: Values, anomaly: Rows, train: int, day: int) -> Values:
    return np.concatenate([np.zeros(day), np.square(values[day:] - values[:-day])])


def _unlike_last_week(values: Values, anomaly: Rows, train: int, day: int) -> Values:
    return _unlike_yesterday(values, anomaly, train, min(7 * day, train // 2))


def _forest(values: Values, anomaly: Rows, train: int, day: int) -> Values:
    from sklearn.ensemble import IsolationForest

    length = day // 4
    windows = np.lib.stride_tricks.sliding_window_view(values, length)[:, :: max(1, length // 24)]
    before = np.concatenate([[0], anomaly.cumsum()])
    starts = np.arange(train - length + 1)
    normal = starts[before[starts + length] == before[starts]]
    forest = IsolationForest(n_estimators=100, random_state=0).fit(windows[normal])
    return np.concatenate([np.zeros(length - 1), -forest.score_samples(windows)])


DETECTORS: Mapping[str, Detector] = {
    "mean": _far_from_mean,
    "day": _far_from_day,
    "step": _step,
    "yesterday": _unlike_yesterday,
    "week": _unlike_last_week,
    "forest": _forest,
}


def smoothed(values: Values, rows: int) -> Values:
    """The mean over as many rows up to each; over fewer at the beginning."""
    total = np.concatenate([[0.0], values.cumsum()])
    ends = np.arange(1, len(values) + 1)
    begins = np.maximum(0, ends - rows)
    mean: Values = (total[ends] - total[begins]) / (ends - begins)
    return mean


def threshold(scores: Values, anomaly: Rows) -> tuple[float, float | None]:
    """The one with the best F1, and this; without an anomaly the largest score, and none."""
    if not anomaly.any():
        return float(scores.max()), None
    order = np.argsort(scores)[::-1]
    found = anomaly[order].cumsum()
    f1 = 2 * found / (np.arange(1, len(order) + 1) + anomaly.sum())
    at = int(f1.argmax())
    below = scores[order[min(at + 1, len(order) - 1)]]
    return float((scores[order[at]] + below) / 2), float(f1[at])


def f1_of(scores: Values, anomaly: Rows, over: float) -> float:
    """Of rows that score over this."""
    called = scores > over
    return float(2 * (called & anomaly).sum() / max(1, called.sum() + anomaly.sum()))
