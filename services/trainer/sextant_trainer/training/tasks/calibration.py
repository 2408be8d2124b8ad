"""Temperature scaling (Guo et al., 2017): logits are divided by one number, which makes the validation loss least.

The loss is summed at fixed temperatures, so that ranks can add up what they have, whatever the plan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURES = np.geomspace(0.1, 10.0, 129)
"""One from the next by 3.7 %; what lies between is interpolated."""


def losses(outputs: Tensor, targets: Tensor) -> Tensor:
    """The cross-entropy at each of the temperatures, summed over the samples that are not void."""
    at = [functional.cross_entropy(outputs / float(t), targets, reduction="sum") for t in TEMPERATURES]
    return torch.stack(at)


def best(means: Sequence[float]) -> tuple[float, float]:
    """The temperature with the least loss, and this loss: the lowest point of a parabola through the three lowest."""
    loss = np.asarray(means)
    at = int(loss.argmin())
    if at in (0, len(loss) - 1):
        return float(TEMPERATURES[at]), float(loss[at])
    left, here, right = loss[at - 1 : at + 2]
    bend = left - 2 * here + right
    shift = 0.5 * (left - right) / bend if bend > 0 else 0.0
    step = np.log(TEMPERATURES[1] / TEMPERATURES[0])
    return float(TEMPERATURES[at] * np.exp(shift * step)), float(here - 0.25 * (left - right) * shift)
