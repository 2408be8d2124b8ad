"""Data sets that ship inside Python packages: real data for a first run, without a network."""

from __future__ import annotations

from typing import Any

import numpy as np

from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.domain.samples import Feature, Samples
from sextant_shared.errors import InvalidInput

SKLEARN = {"digits": "image-classification", "wine": "tabular", "breast_cancer": "tabular", "iris": "tabular"}


def read(source: str, task: str) -> Samples:
    """The samples of package://sklearn/NAME. Raises InvalidInput naming what there is."""
    package, _, name = source.removeprefix("package://").partition("/")
    accepted = ", ".join(f"package://sklearn/{known}" for known in SKLEARN)
    if package != "sklearn" or name not in SKLEARN:
        raise InvalidInput(f"no package data set {source!r}", field="source", accepted=accepted)
    if task != SKLEARN[name]:
        raise InvalidInput(
            f"{source} is for the task {SKLEARN[name]!r}, not {task!r}", field="task", accepted=SKLEARN[name]
        )
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")()
    classes = [str(item) for item in bunch.target_names]
    labels = [classes[i] for i in bunch.target]
    ids = np.arange(len(labels), dtype=np.int64)
    if name == "digits":
        images = bunch.images.astype(np.uint8)[:, None, :, :]
        features = [Feature("image", "uint8", images.shape[1:])]
        return Samples(features, {"image": images}, labels, "digit", ids, Quarantine(), classes)
    names = [str(item).replace(" ", "_") for item in bunch.feature_names]
    columns = {column: bunch.data[:, i].astype(np.float32) for i, column in enumerate(names)}
    return Samples([Feature(n, "float32") for n in names], columns, labels, "class", ids, Quarantine(), classes)
