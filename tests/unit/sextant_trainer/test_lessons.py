"""Learning from a teacher beside the data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.specs import Distillation, TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.tasks import Task, open_task
from sextant_trainer.training.tasks.lessons import Lessons, teacher_of
from sextant_zoo import build

CLASSES = ["a", "b", "c"]


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A table of 40 rows, two columns and three classes."""
    rng = np.random.default_rng(0)
    about: dict[str, Any] = {
        "task": "tabular",
        "features": [{"name": "x"}, {"name": "y"}],
        "target": {"name": "class", "classes": CLASSES},
        "statistics": {name: {"mean": 0.0, "std": 1.0} for name in "xy"},
        "splits": {},
    }
    for split, rows in (("train", 40), ("val", 8), ("test", 8)):
        columns = {name: rng.normal(size=rows).astype(np.float32) for name in "xy"}
        table = pa.table({**columns, "label": rng.integers(0, 3, rows), "id": np.arange(rows)})
        with pa.OSFile(str(tmp_path / f"{split}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        about["splits"][split] = {"files": [f"{split}.arrow"], "rows": rows}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    return open_task(tmp_path, TrainConfig(), {})


def taught(task: Task, teacher: nn.Module, outputs: torch.Tensor, **how: float) -> torch.Tensor:
    lessons = Lessons(task, teacher, Distillation(**how))
    _, targets = lessons.train_batch(GlobalOrder(40, 8, 0), 3, slice(0, 8))
    return lessons.loss(outputs, targets)


@pytest.fixture
def pictures(tmp_path: Path) -> Task:
    """Forty pictures of 4 x 4 in three classes."""
    rng = np.random.default_rng(0)
    root = tmp_path / "pictures"
    root.mkdir()
    about: dict[str, Any] = {
        "task": "image-classification",
        "features": [{"name": "image", "dtype": "uint8", "shape": [1, 4, 4]}],
        "target": {"name": "class", "classes": CLASSES},
        "statistics": {"image": {"mean": [100.0], "std": [50.0]}},
        "splits": {},
    }
    for split, rows in (("train", 40), ("val", 8), ("test", 8)):
        flat = pa.array(rng.integers(0, 256, rows * 16, np.uint8))
        image = pa.FixedSizeListArray.from_arrays(flat, 16)
        table = pa.table({"image": image, "label": rng.integers(0, 3, rows), "id": np.arange(rows)})
        with pa.OSFile(str(root / f"{split}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        about["splits"][split] = {"files": [f"{split}.arrow"], "rows": rows}
    (root / "dataset.json").write_text(json.dumps(about))
    return open_task(root, TrainConfig(), {})


def test_a_teacher_sees_what_it_was_trained_on_whatever_pictures_are_normalised_by(
    pictures: Task, tmp_path: Path
) -> None:
    plain = teacher_of(version(tmp_path / "plain", pictures), pictures)
    other = {"preprocessing": {"mean": [127.0], "std": [128.0]}}
    wrapped = teacher_of(version(tmp_path / "other", pictures, **other), pictures)
    inputs = pictures.train_batch(GlobalOrder(40, 8, 0), 3, slice(0, 8))[0]
    theirs = (inputs * 50.0 + 100.0 - 127.0) / 128.0
    torch.testing.assert_close(wrapped.eval()(inputs), plain.eval()(theirs), rtol=1e-4, atol=1e-5)


def test_a_teacher_of_another_table_is_refused(task: Task, tmp_path: Path) -> None:
    other = {"preprocessing": {"mean": [3.0, -1.0], "std": [2.0, 4.0]}}
    with pytest.raises(InvalidInput, match="another preprocessing"):
        teacher_of(version(tmp_path / "other", task, **other), task)


def test_both_losses_count_by_their_weights(task: Task) -> None:
    torch.manual_seed(0)
    teacher, outputs = nn.Linear(2, 3), torch.randn(8, 3)
    inputs, labels = task.train_batch(GlobalOrder(40, 8, 0), 3, slice(0, 8))
    with torch.no_grad():
        wanted = (teacher(inputs) / 4).softmax(1)
    said = (outputs / 4).log_softmax(1)
    apart = (wanted * (wanted.log() - said)).sum() * 16
    expected = 0.7 * functional.cross_entropy(outputs, labels, reduction="sum") + 0.3 * apart
    torch.testing.assert_close(taught(task, teacher, outputs, weight=0.3, temperature=4.0), expected)


def test_who_says_what_the_teacher_says_has_nothing_to_learn_from_it(task: Task) -> None:
    torch.manual_seed(0)
    teacher = nn.Linear(2, 3)
    inputs, _ = task.train_batch(GlobalOrder(40, 8, 0), 3, slice(0, 8))
    same = taught(task, teacher, teacher(inputs), weight=1.0)
    # A sum of differences of equal logarithms.
    assert abs(float(same.detach())) < 1e-5
    assert float(taught(task, teacher, -teacher(inputs), weight=1.0).detach()) > 0.1


def test_the_teacher_does_not_learn(task: Task) -> None:
    teacher = nn.Linear(2, 3)
    outputs = torch.zeros(8, 3, requires_grad=True)
    taught(task, teacher, outputs).backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert teacher.weight.grad is None


def version(directory: Path, taught_for: Task, **changes: Any) -> Path:
    """A trained model version."""
    directory.mkdir()
    torch.manual_seed(5)
    config = {"hidden": 8}
    about = {"format": "safetensors", "task": taught_for.name, "architecture": {"zoo": "mlp", "config": config}}
    (directory / "model.json").write_text(json.dumps({**about, **taught_for.describe(), **changes}))
    save_file(build("mlp", config, taught_for.shape, 3).state_dict(), str(directory / "model.safetensors"))
    return directory


def test_a_teacher_is_a_trained_version(task: Task, tmp_path: Path) -> None:
    model = teacher_of(version(tmp_path / "teacher", task), task)
    assert model(torch.zeros(4, 2)).shape == (4, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "onnx"}, "the format onnx cannot teach"),
        ({"classes": ["a", "b"]}, "another classes"),
        ({"task": "image-classification"}, "another task"),
        ({"preprocessing": {"mean": [1.0], "std": [1.0]}}, "another preprocessing"),
    ],
)
def test_one_that_cannot_teach_this_is_refused(
    task: Task, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        teacher_of(version(tmp_path / "teacher", task, **changes), task)
    assert caught.value.field == "teacher"


def test_broken_tensors_are_refused(task: Task, tmp_path: Path) -> None:
    directory = version(tmp_path / "teacher", task)
    (directory / "model.safetensors").write_bytes(b"no")
    with pytest.raises(InvalidInput, match="cannot be read"):
        teacher_of(directory, task)
