"""Out-of-scope rows: those whose largest calibrated probability (Hendrycks and Gimpel, 2017) is under a threshold.

The threshold is chosen on validation rows of both kinds, from counts in bins of probability at fixed temperatures, so
that ranks can add up what they have, whatever the plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sextant_trainer.training.tasks.calibration import TEMPERATURES

OUTSIDE = -1
"""The target of a row that is out of scope."""
AT = TEMPERATURES[::4]
"""One from the next by 15 %: the one that is nearest to the calibrated one counts."""
BINS = 200
RIGHT, WRONG, OUT = range(3)
SIZE = len(AT) * 3 * BINS


@dataclass(frozen=True, slots=True)
class Rejection:
    """What a threshold does: shares of rows in scope that are called rightly, and of others that are rejected."""

    threshold: float
    in_scope_accuracy: float
    oos_recall: float


def counts(outputs: Tensor, targets: Tensor, void: float) -> Tensor:
    """Rows by temperature, by whether they are called rightly, wrongly or are out of scope, and by probability."""
    kept = targets != void
    outputs, targets = outputs[kept], targets[kept]
    kind = torch.where(outputs.argmax(1) == targets, RIGHT, WRONG)
    kind[targets == OUTSIDE] = OUT
    found = []
    for temperature in AT:
        sure = torch.softmax(outputs.float() / float(temperature), 1).amax(1)
        bins = (sure * BINS).long().clamp(max=BINS - 1)
        found.append(torch.bincount(bins + BINS * kind, minlength=3 * BINS))
    return torch.cat(found)


def share_in_scope(means: Sequence[float]) -> float:
    """Of all rows that were counted."""
    return float(np.sum(means[: OUT * BINS]))


def choose(means: Sequence[float], temperature: float) -> Rejection:
    """The threshold with the best mean of the accuracy in scope and of the recall of rows out of scope."""
    by_temperature = np.asarray(means).reshape(len(AT), 3, BINS)
    kinds = by_temperature[int(np.abs(np.log(AT / temperature)).argmin())]
    # What is kept and what is rejected, were the threshold the lower end of each bin.
    kept_right = kinds[RIGHT, ::-1].cumsum()[::-1] / kinds[:OUT].sum()
    rejected = (kinds[OUT].cumsum() - kinds[OUT]) / kinds[OUT].sum()
    best = int((kept_right + rejected).argmax())
    return Rejection(best / BINS, float(kept_right[best]), float(rejected[best]))
