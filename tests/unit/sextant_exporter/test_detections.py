"""Detectors as they are served and evaluated: scores at the threshold, agreement of an export, figures of a split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from sextant_exporter import exporting, serving
from sextant_exporter.detections import Scores, ServedDetections, differences, without_counterpart
from sextant_zoo import build

ABOUT: dict[str, Any] = {
    "task": "defect-detection",
    "input": {"shape": [1, 32, 64]},
    "preprocessing": {"mean": [0.0], "std": [1.0]},
    "threshold": 0.2,
}


class Said(nn.Module):
    """A detector of two classes, cells of eight pixels, that says the same of every picture."""

    def __init__(self, logits: dict[tuple[int, int, int], float]) -> None:
        super().__init__()
        maps = torch.full((6, 4, 8), -9.0)
        maps[2:] = 1.0
        for place, logit in logits.items():
            maps[place] = logit
        self.register_buffer("maps", maps)

    def forward(self, x: Tensor) -> Tensor:
        return self.get_buffer("maps").expand(len(x), -1, -1, -1)


LOGIT = float(np.log(0.2 / 0.8))


def served(shift: float = 0.0) -> ServedDetections:
    """One box a little surer than the threshold, one a little less."""
    return ServedDetections(Said({(0, 1, 1): LOGIT + 0.1 + shift, (1, 2, 6): LOGIT - 0.1 + shift}), ABOUT)


def found(model: nn.Module, pictures: int = 2) -> list[Any]:
    return [part.numpy() for part in model(torch.zeros(pictures, 1, 32, 64, dtype=torch.uint8))]


def test_a_score_of_one_half_is_the_threshold_of_the_validation() -> None:
    boxes, scores, classes = found(served())
    assert (scores[0, :2] > 0.5).tolist() == [True, False]
    assert classes[0, :2].tolist() == [0, 1]
    # The middles of the cells, and a cell each way.
    assert boxes[0, :2].tolist() == [[4, 4, 20, 20], [44, 12, 60, 28]]
    assert float(scores[0, 2:].max()) < 1e-3


def test_the_same_answers_in_another_order_do_not_differ() -> None:
    model = served()
    turned = [part[:, ::-1] for part in found(model)]
    apart, missing = differences(model, torch.zeros(2, 1, 32, 64, dtype=torch.uint8), turned)
    assert missing == 0
    assert apart == pytest.approx(0.0, abs=1e-6)


def test_another_box_and_another_score_are_differences() -> None:
    model, pictures = served(1.0), torch.zeros(2, 1, 32, 64, dtype=torch.uint8)
    answers = found(model)
    answers[1][0, 0] -= 0.05
    assert differences(model, pictures, answers)[0] == pytest.approx(0.05, abs=1e-3)
    answers = found(model)
    answers[0][1, 0, 2] += 6.4
    apart, missing = differences(model, pictures, answers)
    # A tenth of the width; and no such box is there.
    assert apart == pytest.approx(0.1, abs=1e-3)
    assert missing == 2
    answers = found(model)
    answers[2][:, 0] = 1
    assert without_counterpart(found(model), answers) == 2


REAL = [np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32), np.zeros((0, 4), np.float32)]
LABELS = [np.array([0, 1]), np.zeros(0, np.int64)]


def test_figures_count_what_is_over_one_half() -> None:
    split = Scores(["a", "b"], 0.5)
    boxes = np.stack([np.array([[0, 0, 10, 10], [20, 0, 30, 10], [50, 0, 60, 10]], np.float32)] * 2)
    split.add((boxes, np.array([[0.9, 0.4, 0.7], [0.3, 0.2, 0.1]]), np.array([[0, 1, 1], [0, 1, 1]])), REAL, LABELS)
    figures = split.figures()
    assert (figures["precision"], figures["recall"], figures["f1"]) == (0.5, 0.5, 0.5)
    # Of a the only one comes first; of b the real one comes after a wrong one.
    assert split.by_class() == {"a": 1.0, "b": 0.5}
    assert figures["mean_ap"] == 0.75
    # At 0.4 both are found, beside one that is not there.
    assert figures["best_f1"] == pytest.approx(0.8)
    assert figures["false_detection_rate"] == 0.0


def test_any_box_on_a_picture_without_one_is_a_false_alarm() -> None:
    split = Scores(["a", "b"], 0.5)
    one = np.array([[[0, 0, 10, 10]]], np.float32)
    for score in (0.6, 0.4, 0.5, 0.1):
        split.add((one, np.array([[score]]), np.array([[0]])), REAL[1:], LABELS[1:])
    assert split.figures()["false_detection_rate"] == 0.5


def test_a_detector_that_aligns_is_exported_with_what_moves_the_reference(tmp_path: Path) -> None:
    config = {"backbone": "resnet18", "width": 0.0625, "channels": 8, "depth": 1, "fold": 2, "align": 3}
    about = {
        "task": "defect-detection",
        "architecture": {"zoo": "detector", "config": config},
        "input": {"name": "input", "shape": [2, 64, 96], "dtype": "uint8"},
        "preprocessing": {"mean": [128.0, 128.0], "std": [64.0, 64.0]},
        "classes": ["a", "b"],
    }
    torch.manual_seed(0)
    model = serving.wrap(build("detector", config, (2, 64, 96), 2), about).eval()
    exporting.write_onnx(model, about, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 2, (5, 11, 15), np.uint8).repeat(8, 1).repeat(8, 2) * np.uint8(255)
    moves = [(0, 0), (3, -2), (-1, 1), (2, 3), (-3, 0)]
    references = [
        one[12 + down : 76 + down, 12 + along : 108 + along] for one, (down, along) in zip(wide, moves, strict=True)
    ]
    pairs = np.stack([np.stack(references), wide[:, 12:76, 12:108]], 1)
    apart, missing = differences(model, torch.from_numpy(pairs), session.run(None, {"input": pairs}))
    assert apart < 1e-4
    assert missing == 0
    apart, _ = differences(model, torch.from_numpy(pairs[:, ::-1].copy()), session.run(None, {"input": pairs}))
    assert apart > 1e-4
