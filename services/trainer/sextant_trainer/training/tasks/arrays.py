"""Images and tables: memory-mapped Arrow columns as arrays, batches as normalised tensors."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sextant_shared.errors import InvalidInput
from sextant_trainer.training.tasks.mapped import Files, Mapped
from sextant_zoo.pretrained import FIELD, Scale

NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Split:
    """One split: `features` (rows, *shape) in the stored type, images on disk, tables in memory; `labels` (rows,)."""

    features: NDArray[Any] | Mapped
    labels: Mapped
    ids: Mapped
    """The numbers of the rows in the source."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A prepared dataset version on this machine."""

    task: str
    classes: list[str]
    shape: tuple[int, ...]
    dtype: str
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    splits: dict[str, Split]
    columns: list[int] | None = None
    """Of a table: by column 0 for a number, else how many features its categories have."""
    features: tuple[dict[str, Any], ...] = ()
    """As the schema has them."""

    def values(self, split: str, row: int) -> dict[str, Any]:
        """The columns of a table's row: numbers, and for a category the one that the row has."""
        found: dict[str, Any] = {}
        for feature, value in zip(self.features, self.splits[split].features[np.array([row])][0].tolist(), strict=True):
            name, column = feature["name"], feature.get("column", feature["name"])
            if feature.get("kind", NUMBER) != "category":
                found[name] = value
            elif value:
                found[column] = name.removeprefix(f"{column}=")
        return found

    def scaled(self, scale: Scale) -> Dataset:
        """Images normalised by what weights were trained with, in place of the training split's figures."""
        mean, std = (np.asarray(part, np.float32).reshape(-1, 1, 1) for part in (scale.mean, scale.std))
        try:
            whole = np.zeros_like(self.mean)
            return replace(self, mean=whole + mean, std=whole + std)
        except ValueError:
            message = f"the weights were trained on images of {len(scale.mean)} channels, not of {len(self.mean)}"
            raise InvalidInput(message, field=FIELD) from None

    def batch(self, split: str, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Normalised float32 inputs (len(rows), *shape) and int64 targets (len(rows),)."""
        part = self.splits[split]
        raw = part.features[rows].astype(np.float32)
        return torch.from_numpy((raw - self.mean) / self.std), torch.from_numpy(part.labels[rows])


def load(directory: Path) -> Dataset:
    """Open the dataset version in `directory`."""
    about = json.loads((directory / "dataset.json").read_text())
    shape, dtype = _shape(about)
    splits = {name: _open(directory, about, split, shape) for name, split in about["splits"].items()}
    mean, std = _normalisation(about, shape)
    columns = _columns(about["features"]) if about["task"] == "tabular" else None
    classes, features = about["target"]["classes"], tuple(about["features"])
    return Dataset(about["task"], classes, shape, dtype, mean, std, splits, columns, features)


def _columns(features: list[dict[str, Any]]) -> list[int]:
    """As the schema declares them; a feature that it says nothing of is a number."""
    kinds = ((feature.get("kind", NUMBER), feature.get("column", feature["name"])) for feature in features)
    found: list[int] = []
    for (kind, _), run in groupby(kinds):
        count = len(list(run))
        found += [count] if kind == "category" else [0 if kind == NUMBER else 1] * count
    return found


def _shape(about: dict[str, Any]) -> tuple[tuple[int, ...], str]:
    features = about["features"]
    if about["task"] == "tabular":
        return (len(features),), "float32"
    return tuple(features[0]["shape"]), features[0]["dtype"]


def _open(directory: Path, about: dict[str, Any], split: dict[str, Any], shape: tuple[int, ...]) -> Split:
    files = Files([directory / file for file in split["files"]])
    labels, ids = Mapped(files, "label"), Mapped(files, "id")
    if about["task"] != "tabular":
        return Split(Mapped(files, "image", shape), labels, ids)
    # A row's values lie far from each other on disk: tables are brought together in memory, 4 bytes a value.
    table = np.empty((files.rows, len(about["features"])), np.float32)
    for column, feature in enumerate(about["features"]):
        table[:, column] = np.concatenate(list(Mapped(files, feature["name"]).parts()))
    return Split(table, labels, ids)


def _normalisation(about: dict[str, Any], shape: tuple[int, ...]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation, broadcast against one sample: by channel for images, by column for tables."""
    statistics = about["statistics"]
    if about["task"] == "tabular":
        # What only says whether something is so stays 0 or 1.
        plain = {"mean": 0.0, "std": 1.0}
        entries = [statistics[f["name"]] if f.get("kind", NUMBER) == NUMBER else plain for f in about["features"]]
        means, stds = [e["mean"] for e in entries], [e["std"] for e in entries]
    else:
        entry = statistics["image"]
        means, stds = np.atleast_1d(entry["mean"]).tolist(), np.atleast_1d(entry["std"]).tolist()
    trailing = (1,) * (len(shape) - 1)
    safe = [s if s > 0 and math.isfinite(s) else 1.0 for s in stds]
    form = (-1, *trailing)
    return np.asarray(means, np.float32).reshape(form), np.asarray(safe, np.float32).reshape(form)
