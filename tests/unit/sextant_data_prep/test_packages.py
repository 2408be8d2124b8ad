"""Data sets inside Python packages."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import datasets

from sextant_data_prep import packages
from sextant_data_prep.domain.samples import encode_labels
from sextant_shared.errors import InvalidInput


def test_the_digits_are_images_of_one_channel() -> None:
    samples = packages.read("package://sklearn/digits", "image-classification")
    assert [(f.name, f.dtype, f.shape) for f in samples.features] == [("image", "uint8", (1, 8, 8))]
    original = datasets.load_digits()
    assert np.array_equal(samples.columns["image"][:, 0], original.images)
    classes, labels = encode_labels(samples)
    assert classes == [str(digit) for digit in range(10)]
    assert np.array_equal(labels, original.target)


@pytest.mark.parametrize(("name", "columns", "rows"), [("iris", 4, 150), ("wine", 13, 178), ("breast_cancer", 30, 569)])
def test_a_table_has_all_its_columns_and_the_classes_in_their_own_order(name: str, columns: int, rows: int) -> None:
    samples = packages.read(f"package://sklearn/{name}", "tabular")
    assert len(samples.features) == columns
    assert samples.total == rows
    original = getattr(datasets, f"load_{name}")()
    for index, feature in enumerate(samples.features):
        assert np.array_equal(samples.columns[feature.name], original.data[:, index].astype(np.float32))
    classes, labels = encode_labels(samples)
    assert classes == [str(item) for item in original.target_names]
    assert np.array_equal(labels, original.target)


@pytest.mark.parametrize("source", ["package://sklearn/nope", "package://torch/digits", "package://"])
def test_a_set_that_is_not_there_is_named_with_those_that_are(source: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        packages.read(source, "tabular")
    assert caught.value.field == "source"
    assert source in caught.value.message
    assert "package://sklearn/wine" in (caught.value.accepted or "")


def test_a_set_of_another_task_is_refused_naming_its_own() -> None:
    with pytest.raises(InvalidInput) as caught:
        packages.read("package://sklearn/digits", "tabular")
    assert (caught.value.field, caught.value.accepted) == ("task", "image-classification")
