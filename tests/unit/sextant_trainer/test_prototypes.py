"""Heads that begin with the means of classes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import WorkOrder
from sextant_trainer.training import prototypes
from sextant_trainer.training.recipe import make_recipe
from sextant_trainer.training.tasks import Task

CLASSES, FEATURES, ROWS = 5, 8, 400


class Encoder(nn.Module):
    """What it sees of a row is the row, unless it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.output = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.output(x * 0 if self.training else x))


def task_of(labels: Tensor) -> tuple[Task, Tensor]:
    """Rows that lie around the centres of their classes."""
    made = torch.Generator().manual_seed(1)
    centres = 3 * torch.randn(CLASSES, FEATURES, generator=made)
    inputs = centres[labels.clamp(min=0)] + 0.3 * torch.randn(len(labels), FEATURES, generator=made)
    inputs[labels < 0] = 100.0
    task: Any = SimpleNamespace(
        outputs=CLASSES, rows=lambda split: len(labels), batch=lambda split, rows: (inputs[rows], labels[rows])
    )
    return task, inputs


def test_a_model_that_begins_with_them_calls_rows_rightly_before_it_is_trained() -> None:
    # What is out of scope has no class, however far away it is.
    labels = torch.from_numpy(np.random.default_rng(0).integers(-1, CLASSES, ROWS))
    task, inputs = task_of(labels)
    model = Encoder()
    weights = prototypes.find(model, task, 20, 3)
    assert model.training
    prototypes.begin(model, weights)
    model.eval()
    logits = model(inputs).detach()[labels >= 0]
    assert (logits.argmax(1) == labels[labels >= 0]).all()
    mean = float(logits.amax(1).mean())
    assert 0.8 * prototypes.SPREAD < mean < 1.2 * prototypes.SPREAD
    assert torch.equal(weights, prototypes.find(model, task, 20, 3))


def test_a_rare_class_has_its_rows() -> None:
    labels = torch.zeros(ROWS, dtype=torch.int64)
    labels[7:11] = torch.arange(1, CLASSES)
    task, inputs = task_of(labels)
    model = Encoder()
    prototypes.begin(model, prototypes.find(model, task, 5, 0))
    model.eval()
    assert (model(inputs).argmax(1) == labels).all()


def test_a_class_without_a_row_stays_as_it_was() -> None:
    labels = torch.arange(ROWS) % (CLASSES - 1)
    model = Encoder()
    weights = prototypes.find(model, task_of(labels)[0], 100, 0)
    assert torch.equal(weights[-1], model.output.weight.detach()[-1])
    assert not torch.equal(weights[0], model.output.weight.detach()[0])


def test_a_model_without_such_a_head_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no linear head"):
        prototypes.find(nn.Sequential(nn.ReLU()), task_of(torch.zeros(4, dtype=torch.int64))[0], 1, 0)


@pytest.mark.parametrize("task", ["text-classification", "forecasting"])
def test_they_need_a_pretrained_model_of_classes(task: str) -> None:
    spec = {"kind": "train", "data": {"dataset": "d"}, "model": {"zoo": "minilm"}, "config": {"prototypes": 8}}
    order = WorkOrder(job_id="j", kind="train", name="job", fence=1, attempt=1, spec=spec, inputs={})
    with pytest.raises(InvalidInput, match="no pretrained model") as caught:
        make_recipe(order, task, 1)
    assert caught.value.field == "config.prototypes"
