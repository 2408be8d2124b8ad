"""Boxes of objects in pictures: middles and sides, from pictures that are varied together with their boxes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_parallel import GlobalOrder
from sextant_shared.contracts.augmentation import Augmentation
from sextant_shared.contracts.specs import TrainConfig
from sextant_shared.errors import InvalidInput
from sextant_trainer.training.study import Seen, Study
from sextant_trainer.training.tasks import scoring
from sextant_trainer.training.tasks.boxes import detection_loss, imitation_loss
from sextant_trainer.training.tasks.inspecting import inspect
from sextant_trainer.training.tasks.mapped import Files, Mapped
from sextant_trainer.training.tasks.pasting import paste
from sextant_trainer.training.tasks.scenes import Variation, vary_scenes
from sextant_trainer.training.tasks.task import Task
from sextant_zoo.pretrained import Weights

NO_BOX = -1.0


class Pictures:
    """One split: `images` (rows, channels, height, width) on disk, and the boxes in memory."""

    def __init__(self, directory: Path, files: list[str], shape: tuple[int, ...]) -> None:
        opened = Files([directory / file for file in files])
        self.images, self.ids = Mapped(opened, "image", shape), Mapped(opened, "id")
        sides = [batch.column("boxes").flatten().flatten().to_numpy() for batch in opened.batches]
        labels = [batch.column("classes") for batch in opened.batches]
        self._sides = np.concatenate(sides).reshape(-1, 4)
        self._labels = np.concatenate([column.flatten().to_numpy() for column in labels])
        lengths = np.concatenate([column.value_lengths().to_numpy() for column in labels])
        self._starts = np.concatenate([[0], np.cumsum(lengths)])
        self.most = int(lengths.max(initial=1))
        self.boxes = len(self._labels)

    def targets(self, rows: NDArray[np.int64], most: int) -> Tensor:
        """(len(rows), most, 5): sides and class, filled up."""
        found = np.full((len(rows), most, 5), NO_BOX, np.float32)
        for place, row in enumerate(rows):
            span = slice(self._starts[row], self._starts[row + 1])
            found[place, : span.stop - span.start, :4] = self._sides[span]
            found[place, : span.stop - span.start, 4] = self._labels[span]
        return torch.from_numpy(found)


class Detection(Task):
    """Pictures and their boxes. Mean average precision decides, then the loss."""

    name = "defect-detection"
    void = -2.0

    def __init__(self, directory: Path, config: TrainConfig, weights: Weights | None = None) -> None:
        """Raises InvalidInput for settings that are not for boxes."""
        _check(config)
        about = json.loads((directory / "dataset.json").read_text())
        image = about["features"][0]
        self.config, self.classes = config, list(about["target"]["classes"])
        self.shape, self.outputs = tuple(image["shape"]), len(self.classes)
        self.size = (self.shape[1], self.shape[2])
        self.parts: list[int] = image["images"]
        self.splits = {name: Pictures(directory, split["files"], self.shape) for name, split in about["splits"].items()}
        self._most = max(split.most for split in self.splits.values())
        figures = about["statistics"]["image"]
        self.mean, self.std = figures["mean"], [std or 1.0 for std in figures["std"]]
        if weights is not None and weights.scale is not None and len(weights.scale.mean) == len(self.mean):
            self.mean, self.std = list(weights.scale.mean), list(weights.scale.std)
        train = self.splits["train"]
        self._usual = max(1.0, train.boxes / max(1, len(train.images)))
        self._variation = self._varying(config.augment) if config.augment is not None else None

    def rows(self, split: str) -> int:
        """Pictures of a split."""
        return len(self.splits[split].images)

    def batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Normalised float32 pictures (len(rows), *shape), and targets (len(rows), n, 5) as `boxes` has them."""
        images, targets = self._stored(split, rows)
        return self._normalised(images.float()), targets

    def train_batch(self, order: GlobalOrder, step: int, rows: slice) -> tuple[Tensor, Tensor]:
        """With pictures varied as the config says."""
        images, targets = self._stored("train", order.batch_at(step)[rows])
        if self._variation is None:
            return self._normalised(images.float()), targets
        how = self._variation.how
        seed, places = hash((self.config.seed, step)) % 2**63, np.arange(rows.start, rows.stop)
        if how.paste:
            # Drawn for the whole batch, so that any number of ranks sees the same.
            rng = np.random.default_rng(seed)
            givers = self._stored("train", rng.integers(self.rows("train"), size=order.batch)[rows])
            seeds = rng.integers(2**62, size=order.batch)[rows].tolist()
            targets = paste(images, targets, givers, how.paste, seeds)
        varied, moved = vary_scenes(images, targets, self._variation, seed, places, order.batch)
        return self._normalised(varied), moved

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Focal loss of the middles and overlap of the boxes, in terms of a picture with as many boxes as is usual."""
        return detection_loss(outputs, targets, self.size).sum() / self._usual

    def imitation(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """How far the maps are from those of a teacher."""
        return imitation_loss(outputs, teacher, temperature).sum() / self._usual

    def sums(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, and counts of boxes by bins of their score."""
        kept = targets[:, 0, 4] != self.void
        if not kept.any():
            # A rank may have nothing but what fills up the batch.
            width = scoring.width(self.outputs)
            return torch.zeros(1 + width, dtype=torch.float64, device=outputs.device)
        outputs, targets = outputs[kept], targets[kept]
        counted = scoring.counts(outputs, targets, self.size, self.config.iou).to(outputs.device)
        return torch.cat([self.loss(outputs, targets).double().reshape(1), counted])

    def metrics(self, means: list[float]) -> dict[str, float]:
        """`loss`, and what `scoring` tells."""
        return {"loss": means[0], **scoring.figures(np.asarray(means[1:]), self.outputs)}

    def better(self, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
        """By mean average precision, then by loss."""
        return (new["val_mean_ap"], -new["val_loss"]) > (old["val_mean_ap"], -old["val_loss"])

    def study(self, seen: Seen) -> Study:
        """Boxes by what they are and were called, and the pictures with most errors."""
        part = self.splits["val"]

        def shown(row: int) -> tuple[int, NDArray[Any]]:
            one = np.array([row])
            return int(part.ids[one][0]), part.images[one][0][-self.parts[-1] :]

        return inspect(seen, self.rows("val"), self.classes, self.size, self.config.iou, shown)

    def describe(self) -> dict[str, Any]:
        """Form and type of inputs, normalisation, classes."""
        return {
            "input": {"name": "input", "shape": list(self.shape), "dtype": "uint8"},
            "preprocessing": {"mean": self.mean, "std": self.std},
            "classes": self.classes,
            "iou": self.config.iou,
        }

    def _varying(self, how: Augmentation) -> Variation:
        """Raises InvalidInput for what there is not in these pictures."""
        if len(self.parts) == 1 and (how.jitter or how.blank):
            raise InvalidInput(
                "there is no reference to move against", field="config.augment", accepted="jitter: 0, blank: 0"
            )
        reference = self.parts[0] if len(self.parts) > 1 else 0
        negative: Tensor | None = None
        halved: tuple[int, ...] = ()
        if how.negative is not None:
            self._known("negative", [name for pair in how.negative.items() for name in pair], ", each at most once")
            other = {**how.negative, **{there: here for here, there in how.negative.items()}}
            negative = torch.tensor(self._numbers(other))
        if how.halve is not None:
            if len(self.parts) != 2:
                # Of several images none alone says where an object is.
                message = "there must be one image and its reference, which says what is there without an object"
                raise InvalidInput(message, field="config.augment.halve", accepted="null")
            self._known("halve", list(how.halve), "")
            self._known("halve", sorted(set(how.halve.values())), "")
            for name in how.halve:
                if how.halve[name] == name:
                    message = f"half of {name!r} would be {name!r}"
                    raise InvalidInput(message, field="config.augment.halve", accepted="another class")
            halved = tuple(self._numbers(how.halve))
        return Variation(how, reference, negative, halved)

    def _known(self, field: str, names: list[str], more: str) -> None:
        """Raises InvalidInput where one is no class, or stands there twice."""
        for name in names:
            if name not in self.classes or names.count(name) > 1:
                fault = "is named twice" if name in self.classes else "is no class of the data"
                accepted = f"{', '.join(self.classes)}{more}"
                raise InvalidInput(f"{name!r} {fault}", field=f"config.augment.{field}", accepted=accepted)

    def _numbers(self, others: Mapping[str, str]) -> list[int]:
        """By class, which other one it is."""
        return [self.classes.index(others.get(name, name)) for name in self.classes]

    def _stored(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        part = self.splits[split]
        return torch.from_numpy(part.images[rows]), part.targets(rows, self._most)

    def _normalised(self, images: Tensor) -> Tensor:
        """Channels last: convolutions of single channels are twice as fast so."""
        mean, std = (images.new_tensor(figure).view(-1, 1, 1) for figure in (self.mean, self.std))
        return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _check(config: TrainConfig) -> None:
    refused = {
        "label_smoothing": ("0", bool(config.label_smoothing)),
        "class_weights": ("null", config.class_weights is not None),
        "calibrate": ("false", config.calibrate),
    }
    for name, (accepted, given) in refused.items():
        if given:
            raise InvalidInput("this is not for boxes", field=f"config.{name}", accepted=accepted)
    if config.augment is not None and config.augment.rotate:
        accepted = "0, or turn: true"
        raise InvalidInput("boxes do not stay upright boxes", field="config.augment.rotate", accepted=accepted)
