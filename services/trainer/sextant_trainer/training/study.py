"""What a trained model does on the validation split: where it errs, and how its worst errors look."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

BUDGET_S = 20.0
"""A large model is looked at on as many rows as that takes; one batch at least."""
MOST_ROWS, BATCH = 4096, 64
WORST = 12
Points = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Worst:
    """A row with a large error: its number in the source or in the split, what was said, and what is true."""

    row: int
    loss: float
    said: str = ""
    truth: str = ""
    text: str = ""
    """The row in words."""
    image: str = ""
    """A picture of it, as a data URI."""
    curves: dict[str, Points] = field(default_factory=dict)
    """What was forecast, and what came."""


@dataclass(frozen=True, slots=True)
class Study:
    """The findings on `examined` of the `rows` of the validation split."""

    examined: int = 0
    rows: int = 0
    classes: list[str] = field(default_factory=list)
    confusion: list[list[int]] = field(default_factory=list)
    """[i][j] counts rows of class i that were called j."""
    worst: list[Worst] = field(default_factory=list)
    by_step: list[float] = field(default_factory=list)
    """The mean squared error of each step that is forecast."""

    def plain(self) -> dict[str, Any]:
        """As data; pictures stay on the page."""
        whole = asdict(self)
        for row in whole["worst"]:
            row.pop("image"), row.pop("curves")
        return whole


@dataclass(frozen=True, slots=True)
class Seen:
    """Rows of the validation split in the task's own order, with outputs and targets, (rows, ...) each."""

    rows: NDArray[np.int64]
    outputs: Tensor
    targets: Tensor

    def worst(self, losses: Tensor) -> list[tuple[int, int, float]]:
        """Places in `rows`, rows and losses of the largest ones."""
        order = losses.nan_to_num(nan=torch.inf).argsort(descending=True, stable=True)[:WORST]
        return [(place, int(self.rows[place]), float(losses[place])) for place in order.tolist()]


def look(task: Any, model: nn.Module, seed: int, budget_s: float = BUDGET_S) -> Seen:
    """Run the model on rows of the validation split, drawn by the seed, until there are enough or the time is over."""
    count = task.rows("val")
    order = np.random.default_rng(seed).permutation(count)[:MOST_ROWS]
    outputs, targets, began = [], [], time.monotonic()
    model.eval()
    with torch.no_grad():
        for start in range(0, len(order), BATCH):
            inputs, expected = task.batch("val", order[start : start + BATCH])
            outputs.append(model(inputs).float())
            targets.append(expected)
            if time.monotonic() - began > budget_s:
                break
    return Seen(order[: sum(map(len, outputs))], torch.cat(outputs), torch.cat(targets))


def confusion_of(seen: Seen, classes: int) -> list[list[int]]:
    """Rows by true class and by class that was said."""
    called = seen.outputs.argmax(1)
    counts = torch.bincount(seen.targets * classes + called, minlength=classes * classes)
    found: list[list[int]] = counts.reshape(classes, classes).tolist()
    return found


def words(values: Mapping[str, Any], most: int = 16) -> str:
    """Columns and their values, in one line."""
    told = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in values.items()}
    given = [f"{name}: {value}" for name, value in told.items()]
    return ", ".join(given[:most]) + (", ..." if len(given) > most else "")
