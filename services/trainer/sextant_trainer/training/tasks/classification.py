"""Classes of images and of rows of tables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.study import Seen, Study, Worst, confusion_of
from sextant_trainer.training.tasks import calibration, rejection
from sextant_trainer.training.tasks.arrays import load
from sextant_trainer.training.tasks.augmentation import vary
from sextant_trainer.training.tasks.picture import png
from sextant_trainer.training.tasks.task import Task
from sextant_zoo.pretrained import Weights

FOR_BOXES = ("turn", "noise", "jitter", "blank", "paste", "halve", "negative")
"""Variations of pictures with boxes."""


class Classes(Task):
    """What is the same for whatever is told apart: cross-entropy; accuracy decides, then the loss."""

    # torch's losses ignore it.
    void = -100
    classes: list[str]

    def __init__(self, config: TrainConfig, classes: list[str], labels: Iterable[NDArray[np.int64]]) -> None:
        """`labels` are the numbers of the training rows' classes, in parts.

        Raises InvalidInput for weights of other classes.
        """
        self.config, self.classes = config, [name for name in classes if name != config.out_of_scope]
        self.outputs = len(self.classes)
        self.calibrates = config.calibrate or config.out_of_scope is not None
        self._outside = _place_of(config.out_of_scope, classes)
        self.weights = _weights(config, self.classes, map(self._inside, labels))

    def targets_of(self, labels: NDArray[np.int64]) -> Tensor:
        """The dataset's numbers of classes as targets: without the class that is out of scope."""
        labels = labels.astype(np.int64)
        if self._outside is None:
            return torch.from_numpy(labels)
        moved = np.where(labels > self._outside, labels - 1, labels)
        return torch.from_numpy(np.where(labels == self._outside, rejection.OUTSIDE, moved))

    def described(self) -> dict[str, Any]:
        """The classes, and which of the dataset's is out of scope."""
        if self._outside is None:
            return {"classes": self.classes}
        return {
            "classes": self.classes,
            "out_of_scope": {"class": self.config.out_of_scope, "place": self._outside},
        }

    def insist_on_validation(self, labels: NDArray[np.int64]) -> None:
        """Raise InvalidInput where no row of validation tells what is out of scope, or none is in scope."""
        if self._outside is None:
            return
        outside = int((labels == self._outside).sum())
        if outside in (0, len(labels)):
            what = "no row" if outside == 0 else "only rows"
            message = f"the validation split has {what} of the class {self.config.out_of_scope!r}"
            raise InvalidInput(message, field="config.out_of_scope", accepted="a class with some rows there")

    def _inside(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        targets: NDArray[np.int64] = self.targets_of(np.asarray(labels)).numpy()
        inside: NDArray[np.int64] = targets[targets != rejection.OUTSIDE]
        return inside

    def _known(self, targets: Tensor) -> Tensor:
        """Rows that are out of scope are void: nothing is learnt of them."""
        return targets.masked_fill(targets == rejection.OUTSIDE, self.void)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy, smoothed and weighted as the config says."""
        targets = self._known(targets)
        weights = None if self.weights is None else self.weights.to(outputs)
        smoothing = self.config.label_smoothing
        return functional.cross_entropy(outputs, targets, weights, reduction="sum", label_smoothing=smoothing)

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Kullback and Leibler's divergence of the classes, both softened (Hinton et al., 2015)."""
        said, wanted = (functional.log_softmax(logits / temperature, 1) for logits in (outputs, teacher))
        return functional.kl_div(said, wanted, reduction="sum", log_target=True) * temperature**2

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy without weights, and rows whose class was found; where asked for, losses by temperature."""
        known = self._known(targets)
        loss = functional.cross_entropy(outputs, known, reduction="sum")
        found = torch.stack([loss, (outputs.argmax(1) == known).sum().to(loss.dtype)])
        if self.calibrates:
            found = torch.cat([found, calibration.losses(outputs, known)])
        if self._outside is not None:
            found = torch.cat([found, rejection.counts(outputs, targets, self.void).to(found.dtype)])
        return found

    def metrics(self, means: list[float]) -> dict[str, float]:
        """`loss` and `accuracy`; where asked for, `temperature`, and `calibrated_loss` with it."""
        if self._outside is None:
            return self._of_known(means)
        counted = means[-rejection.SIZE :]
        share = rejection.share_in_scope(counted)
        found = self._of_known([mean / share for mean in means[: -rejection.SIZE]])
        chosen = rejection.choose(counted, found["temperature"])
        named = {"in_scope_accuracy": chosen.in_scope_accuracy, "oos_recall": chosen.oos_recall}
        return {**found, "oos_threshold": chosen.threshold, **named}

    def _of_known(self, means: list[float]) -> dict[str, float]:
        found = {"loss": means[0], "accuracy": means[1]}
        if self.calibrates:
            found["temperature"], found["calibrated_loss"] = calibration.best(means[2:])
        return found

    def study(self, seen: Seen) -> Study:
        """The confusion matrix, and the rows with the largest loss."""
        inside = seen.targets != rejection.OUTSIDE
        seen = Seen(seen.rows[inside.numpy()], seen.outputs[inside], seen.targets[inside])
        losses = functional.cross_entropy(seen.outputs, seen.targets, reduction="none")
        said = seen.outputs.argmax(1)
        worst = [
            replace(
                self.shown(row),
                loss=loss,
                said=self.classes[int(said[place])],
                truth=self.classes[int(seen.targets[place])],
            )
            for place, row, loss in seen.worst(losses)
        ]
        return Study(len(seen.rows), self.rows("val"), self.classes, confusion_of(seen, self.outputs), worst)

    @abstractmethod
    def shown(self, row: int) -> Worst:
        """A row of the validation split as people can look at it."""

    def better(self, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        """By accuracy, then by loss."""
        return (new["val_accuracy"], -new["val_loss"]) > (old["val_accuracy"], -old["val_loss"])


class Classification(Classes):
    """Images and tables, as the dataset stores them."""

    def __init__(self, directory: Path, config: TrainConfig, weights: Weights | None = None) -> None:
        self.data = load(directory)
        if weights is not None and weights.scale is not None:
            self.data = self.data.scaled(weights.scale)
        how = config.augment
        if how is not None and (meant := [name for name in FOR_BOXES if getattr(how, name) not in (False, 0, None)]):
            raise InvalidInput(
                f"{', '.join(meant)}: for pictures with boxes alone",
                field="config.augment",
                accepted="rotate, scale, shift, flip",
            )
        super().__init__(config, self.data.classes, self.data.splits["train"].labels.parts())
        self.insist_on_validation(np.concatenate([np.asarray(part) for part in self.data.splits["val"].labels.parts()]))
        self.name, self.shape = self.data.task, self.data.shape

    def rows(self, split: str) -> int:
        """Samples of a split."""
        return len(self.data.splits[split])

    def batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Normalised float32 inputs (len(rows), *shape) and int64 targets (len(rows),)."""
        inputs, labels = self.data.batch(split, rows)
        return inputs, self.targets_of(labels.numpy())

    def train_batch(self, order: GlobalOrder, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """With images varied as the config says."""
        inputs, targets = super().train_batch(order, step, rows)
        if self.config.augment is not None:
            seed = hash((self.config.seed, step)) % 2**63
            inputs = vary(inputs, self.config.augment, seed, np.arange(rows.start, rows.stop), order.batch)
        return inputs, targets

    def shown(self, row: int) -> Worst:
        """As a picture."""
        part = self.data.splits["val"]
        one = np.array([row])
        return Worst(int(part.ids[one][0]), 0.0, image=png(part.features[one][0]))

    def describe(self) -> dict[str, Any]:
        """Form and type of inputs, normalisation, classes."""
        data = self.data
        return {
            "input": {"name": "input", "shape": list(data.shape), "dtype": data.dtype},
            "preprocessing": {"mean": data.mean.ravel().tolist(), "std": data.std.ravel().tolist()},
            **self.described(),
        }


def _place_of(name: str | None, classes: list[str]) -> int | None:
    if name is None:
        return None
    if name not in classes:
        known = ", ".join(classes[:20])
        raise InvalidInput(f"there is no class {name[:80]!r}", field="config.out_of_scope", accepted=known)
    if len(classes) < 3:
        raise InvalidInput("two classes or more must be in scope", field="config.out_of_scope", accepted="null")
    return classes.index(name)


def _weights(config: TrainConfig, classes: list[str], labels: Iterable[NDArray[np.int64]]) -> Tensor | None:
    """What an error of each class counts: balanced ones are 1 on the mean over the training rows."""
    given = config.class_weights
    if given is None:
        return None
    if isinstance(given, str):
        counts = np.sum([np.bincount(part, minlength=len(classes)) for part in labels], axis=0)
        return torch.from_numpy(counts.sum() / (len(classes) * counts.clip(min=1)))
    if unknown := sorted(set(given) - set(classes)):
        known = ", ".join(classes[:20])
        raise InvalidInput(f"there is no class {unknown[0][:80]!r}", field="config.class_weights", accepted=known)
    return torch.tensor([given.get(name, 1.0) for name in classes])
