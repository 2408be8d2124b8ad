"""Rows out of scope: not learnt, told by a threshold that is chosen on validation rows of both kinds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.study import Worst
from sextant_trainer.training.tasks import rejection
from sextant_trainer.training.tasks.classification import Classes

CLASSES = ["a", "none", "z"]


class Plain(Classes):
    """Classes without data."""

    def rows(self, split: str) -> int:
        return 4

    def batch(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        raise NotImplementedError

    def describe(self) -> dict[str, object]:
        return self.described()

    def shown(self, row: int) -> Worst:
        return Worst(row, 0.0)


def task(**config: object) -> Plain:
    """With `none` as what is out of scope."""
    made = TrainConfig.model_validate({"out_of_scope": "none", **config})
    return Plain(made, CLASSES, [np.array([0, 0, 1, 2])])


def test_the_class_out_of_scope_is_none_of_the_models() -> None:
    made = task(class_weights="balanced")
    assert (made.classes, made.outputs) == (["a", "z"], 2)
    assert made.targets_of(np.array([0, 1, 2])).tolist() == [0, rejection.OUTSIDE, 1]
    assert made.described()["out_of_scope"] == {"class": "none", "place": 1}
    # Two rows of a, one of z: the one out of scope counts for neither.
    assert made.weights is not None
    assert made.weights.tolist() == [0.75, 1.5]


def test_nothing_is_learnt_of_rows_out_of_scope() -> None:
    outputs = torch.tensor([[2.0, 0.0], [0.0, 3.0]], requires_grad=True)
    torch.autograd.backward(task().loss(outputs, torch.tensor([0, rejection.OUTSIDE])))
    assert outputs.grad is not None
    assert outputs.grad[0].abs().sum() > 0
    assert outputs.grad[1].abs().sum() == 0


def test_the_threshold_parts_what_can_be_parted_whoever_counts() -> None:
    made = task()
    sure, unsure = [4.0, 0.0], [0.2, 0.0]
    outputs = torch.tensor([sure, sure, unsure, unsure, [0.0, 4.0], sure])
    targets = torch.tensor([0, 0, rejection.OUTSIDE, rejection.OUTSIDE, 1, made.void], dtype=torch.long)
    whole = made.sums(outputs, targets)
    halves = made.sums(outputs[:3], targets[:3]) + made.sums(outputs[3:], targets[3:])
    assert torch.allclose(whole, halves)
    figures = made.metrics((whole.double() / 5).tolist())
    assert figures["accuracy"] == pytest.approx(1.0)
    assert (figures["in_scope_accuracy"], figures["oos_recall"]) == (1.0, 1.0)
    temperature, threshold = figures["temperature"], figures["oos_threshold"]
    probabilities = torch.softmax(outputs / temperature, 1).amax(1)
    assert probabilities[2] < threshold < probabilities[0]


def test_what_cannot_be_out_of_scope_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no class 'x'"):
        Plain(TrainConfig(out_of_scope="x"), CLASSES, [])
    with pytest.raises(InvalidInput, match="two classes or more"):
        Plain(TrainConfig(out_of_scope="a"), ["a", "z"], [])
    with pytest.raises(InvalidInput, match="no row of the class 'none'"):
        task().insist_on_validation(np.array([0, 2]))
