"""Knowledge distillation (Hinton et al., 2015): a model learns from data and from what a trained one says of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.specs import Distillation
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.tasks.task import Task
from sextant_zoo import build

FIELD = "teacher"
PIXELS = ("image-classification", "defect-detection")


class Lessons:
    """A task whose targets come with what the teacher says; the data's own ones count the rest of the weight."""

    def __init__(self, task: Task, teacher: nn.Module, how: Distillation) -> None:
        self._task, self._teacher, self._how = task, teacher.eval(), how
        self._forms: tuple[torch.Size, torch.dtype, torch.Size] | None = None

    def train_batch(self, order: GlobalOrder, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """As the task's; the targets of a row are flat: its own ones, then the outputs of the teacher."""
        inputs, targets = self._task.train_batch(order, step, rows)
        with torch.no_grad():
            said = self._teacher(inputs).float()
        self._forms = (targets.shape[1:], targets.dtype, said.shape[1:])
        # Numbers of classes are whole and exact in float32 up to 16 million.
        return inputs, torch.cat([targets.float().reshape(len(targets), -1), said.flatten(1)], 1)

    def loss(self, outputs: Tensor, lessons: Tensor) -> Tensor:
        """The sum over the samples of both losses, by their weights."""
        assert self._forms is not None  # noqa: S101 - a batch came before
        form, dtype, said = self._forms
        own = lessons[:, : form.numel()].reshape(-1, *form).to(dtype)
        teacher = lessons[:, form.numel() :].reshape(-1, *said)
        weight = self._how.weight
        imitation = self._task.imitation(outputs, teacher, self._how.temperature)
        return (1 - weight) * self._task.loss(outputs, own) + weight * imitation


def teacher_of(directory: Path, task: Task) -> nn.Module:
    """The trained model of a version's directory. Raises InvalidInput where it cannot teach the task."""
    about = json.loads((directory / "model.json").read_text())
    if about.get("format") != "safetensors":
        raise InvalidInput(
            f"a model in the format {about.get('format')} cannot teach", field=FIELD, accepted="a trained one"
        )
    own = task.describe()
    # The scale of columns is what says that a table is the same: its teacher must have seen that one.
    scaled = _rescaling(about["preprocessing"], own["preprocessing"]) if task.name in PIXELS else None
    for what, theirs, ours in (
        ("task", about["task"], task.name),
        ("classes", about["classes"], own["classes"]),
        ("shape of inputs", about["input"]["shape"], own["input"]["shape"]),
        *([("preprocessing", about["preprocessing"], own["preprocessing"])] if scaled is None else []),
    ):
        if theirs != ours:
            raise InvalidInput(
                f"the teacher has another {what} than the data: {str(theirs)[:120]}",
                field=FIELD,
                accepted=str(ours)[:200],
            )
    architecture = about["architecture"]
    model = build(architecture["zoo"], architecture["config"], task.shape, task.outputs)
    try:
        model.load_state_dict(load_file(str(directory / "model.safetensors")))
    except (SafetensorError, RuntimeError) as error:
        raise InvalidInput(f"the teacher's tensors cannot be read: {str(error)[:200]}", field=FIELD) from None
    return model if scaled is None else nn.Sequential(scaled, model)


class _Rescaled(nn.Module):
    """Inputs that are normalised for one model, as another had them."""

    def __init__(self, factor: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, ...) -> the same."""
        form = (-1, *[1] * (x.dim() - 2))
        return x * self.factor.view(form) + self.shift.view(form)


def _rescaling(theirs: dict[str, Any], ours: dict[str, Any]) -> _Rescaled | None:
    """From our normalisation to theirs; None where they are the same, or are no means and deviations alone."""
    if theirs == ours or {*theirs} != {"mean", "std"} or {*ours} != {"mean", "std"}:
        return None
    if len(theirs["mean"]) != len(ours["mean"]):
        return None
    mean, std, other, spread = (torch.tensor(how[key]) for how in (ours, theirs) for key in ("mean", "std"))
    return _Rescaled(std / spread, (mean - other) / spread)


def lessons_of(directory: Path | None, task: Task, how: Distillation) -> Lessons | None:
    """With the teacher of a directory; nothing where there is none."""
    return None if directory is None else Lessons(task, teacher_of(directory, task), how)


def described(teacher: Any) -> dict[str, Any]:
    """Which version taught, for model.json."""
    return {"id": teacher.id, "name": teacher.name, "version": teacher.version, "digest": teacher.digest}
