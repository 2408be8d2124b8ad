"""A served model that rejects what is out of scope, and the figures of that."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sextant_exporter.domain.metrics import score
from sextant_exporter.serving import Rejecting, outputs, served_classes

ABOUT = {"classes": ["a", "z"], "out_of_scope": {"class": "none", "place": 1, "threshold": 0.8}}


class Given(nn.Module):
    """Gives what it is given."""

    def forward(self, values: Tensor) -> Tensor:
        return values


def test_a_row_is_rejected_where_no_probability_is_enough() -> None:
    probabilities = torch.tensor([[0.81, 0.19], [0.79, 0.21], [0.5, 0.5], [0.1, 0.9]])
    served = Rejecting(Given(), 0.8, 1)(probabilities.log() + 3.0)
    assert served.argmax(1).tolist() == [0, 1, 1, 2]
    assert torch.equal(served[:, [0, 2]], probabilities.log() + 3.0)
    assert served_classes(ABOUT) == ["a", "out_of_scope", "z"]
    assert outputs(ABOUT)[0]["shape"][1:] == [3]


def test_rejections_have_figures_of_their_own() -> None:
    logits = np.array([[2.0, 1.0, 0.0], [2.0, 3.0, 0.0], [0.0, 3.0, 2.0], [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    labels = np.array([0, 0, 1, 1, 2])
    figures = score(logits, labels, 3, outside=1).figures()
    assert figures["accuracy"] == pytest.approx(3 / 5)
    assert figures["in_scope_accuracy"] == pytest.approx(2 / 3)
    assert figures["in_scope_accuracy_unrejected"] == pytest.approx(1.0)
    assert figures["oos_recall"] == pytest.approx(1 / 2)
    assert "oos_recall" not in score(logits, labels, 3).figures()
    assert "oos_recall" not in score(logits[:2], labels[:2], 3, outside=1).figures()
