"""What every reader delivers, whatever the source: features as columns, labels as names, bad rows apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sextant_data_prep.domain.quarantine import Quarantine
from sextant_shared.errors import InvalidInput

RESERVED = ("label", "id")
"""Columns that the files have beside the features: a feature of that name would be overwritten with the labels."""


@dataclass(frozen=True, slots=True)
class Feature:
    """A column: its name, the type of its elements, and the shape of one value."""

    name: str
    dtype: str
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Samples:
    """Rows that passed. Columns are arrays (rows, *shape), or a list of str for text; `ids` are source row numbers."""

    features: list[Feature]
    columns: dict[str, Any]
    labels: list[str]
    target: str
    ids: NDArray[np.int64]
    quarantine: Quarantine
    classes: list[str] | None = None
    """The order of the classes where the source gives one; the sorted names otherwise."""

    @property
    def total(self) -> int:
        """Rows read, the bad ones included."""
        return len(self.labels) + len(self.quarantine.rows)


def encode_labels(samples: Samples) -> tuple[list[str], NDArray[np.int64]]:
    """The classes and each row's class number. Raises InvalidInput where there is only one class."""
    return encode(samples.labels, samples.classes)


def encode(labels: Sequence[str], classes: list[str] | None = None) -> tuple[list[str], NDArray[np.int64]]:
    """The classes, sorted where they are not given, and each label's number. Raises InvalidInput for only one."""
    if len(set(labels)) < 2:
        raise InvalidInput(
            f"all rows have the same label {labels[0][:80]!r}; there is nothing to learn",
            field="target",
            accepted="two classes or more",
        )
    classes = classes or sorted(set(labels))
    number = {name: index for index, name in enumerate(classes)}
    return classes, np.fromiter((number[label] for label in labels), np.int64, len(labels))


def row_bytes(samples: Samples, row: int) -> bytes:
    """The content of one row, without its label and number."""
    parts = []
    for feature in samples.features:
        value = samples.columns[feature.name][row]
        parts.append(value.encode() if isinstance(value, str) else np.asarray(value).tobytes())
    return b"\0".join(parts)


def statistics(samples: Samples, train: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """Figures of the training split, by feature; images by channel. The other splits must not leak into them."""
    found: dict[str, dict[str, Any]] = {}
    for feature in samples.features:
        column = samples.columns[feature.name]
        if feature.dtype == "string":
            lengths = np.array([len(column[i]) for i in train])
            found[feature.name] = {"min_length": int(lengths.min()), "max_length": int(lengths.max())}
            continue
        values = np.asarray(column)[train].astype(np.float64)
        axes = (0, *range(2, values.ndim)) if values.ndim > 2 else (0,)
        found[feature.name] = {
            "mean": values.mean(axes).tolist(),
            "std": values.std(axes).tolist(),
            "min": float(values.min()),
            "max": float(values.max()),
        }
    return found
