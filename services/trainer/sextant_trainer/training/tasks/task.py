"""What a task is to the loop: where its batches come from, what is made small, and which of two epochs is better."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_parallel import GlobalOrder
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.study import Seen, Study


class Task(ABC):
    """One kind of learning on one dataset version. It has no state that training changes."""

    name: str
    void: ClassVar[float]
    """The target of rows that fill up a batch: they count for nothing."""
    shape: tuple[int, ...]
    """Of one input, without the batch."""
    outputs: int
    """Classes, or steps that are forecast."""

    @abstractmethod
    def rows(self, split: str) -> int:
        """Samples of a split."""

    @abstractmethod
    def batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Inputs (len(rows), ...) and targets (len(rows), ...)."""

    def train_batch(self, order: GlobalOrder, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """What `rows` of the global batch of a step are: a function of these alone, whatever the ranks."""
        return self.batch("train", order.batch_at(step)[rows])

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The sum over the samples of what is made small."""

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """The sum over the samples of how far outputs are from a teacher's. Raises InvalidInput where none is."""
        del outputs, teacher, temperature
        raise InvalidInput(f"{self.name} is not distilled", field="teacher", accepted="none")

    @abstractmethod
    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A vector: sums over the samples that are not void, from which `metrics` makes figures."""

    @abstractmethod
    def metrics(self, means: list[float]) -> dict[str, float]:
        """By name the figures of what `sums` gave, over the number of samples; `loss` is one."""

    def better(self, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        """Whether an epoch with the validation figures `new` is to be kept in place of one with `old`."""
        return new["val_loss"] < old["val_loss"]

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What has to be known to use a model that was trained on this, for model.json."""

    def study(self, seen: Seen) -> Study:
        """Where a model errs that gave these outputs."""
        return Study(len(seen.rows), self.rows("val"))

    def settings(self) -> dict[str, Any]:
        """Settings that the data give an architecture which has them, where the spec does not."""
        return {}

    def files(self) -> dict[str, str]:
        """By name the texts of further files that a model needs to be used."""
        return {}

    def padded(self, split: str, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The batch at `places`, where those beyond the split's end are void."""
        count = self.rows(split)
        inputs, targets = self.batch(split, np.minimum(places, count - 1))
        targets[torch.from_numpy(places >= count)] = self.void
        return inputs, targets
