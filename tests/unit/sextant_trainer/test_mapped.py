"""Columns that are mapped: any rows of any files and batches, as an array would give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sextant_trainer.training.tasks import mapped
from sextant_trainer.training.tasks.mapped import Files, Mapped

SIZES = [[5, 3], [0], [7], [1, 1, 4]]
"""Rows of each batch of each file."""
ROWS = 21
VALUES = np.arange(ROWS * 6, dtype=np.uint8).reshape(ROWS, 2, 3)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Four files of one to three batches, one of them empty."""
    first, paths = 0, []
    schema = pa.schema([("image", pa.list_(pa.uint8(), 6)), ("label", pa.int64())])
    for number, sizes in enumerate(SIZES):
        path = tmp_path / f"{number}.arrow"
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for size in sizes:
                flat = pa.array(VALUES[first : first + size].reshape(-1))
                image = pa.FixedSizeListArray.from_arrays(flat, 6)
                label = pa.array(np.arange(first, first + size))
                writer.write_batch(pa.record_batch([image, label], schema=schema))
                first += size
        paths.append(path)
    return Files(paths)


def test_rows_in_any_order_come_from_where_they_lie(files: Files) -> None:
    images, labels = Mapped(files, "image", (2, 3)), Mapped(files, "label")
    assert files.rows == len(images) == len(labels) == ROWS
    for seed in range(5):
        rows = np.random.default_rng(seed).integers(0, ROWS, 40)
        np.testing.assert_array_equal(images[rows], VALUES[rows])
        np.testing.assert_array_equal(labels[rows], rows)
    assert images[np.empty(0, np.int64)].shape == (0, 2, 3)
    assert images.dtype == np.uint8


def test_all_rows_come_in_parts_that_are_views(files: Files) -> None:
    parts = list(Mapped(files, "image", (2, 3)).parts())
    np.testing.assert_array_equal(np.concatenate(parts), VALUES)
    assert [len(part) for part in parts] == [5, 3, 7, 1, 1, 4]
    assert not any(part.flags.owndata or part.flags.writeable for part in parts)


def test_what_was_given_back_is_read_again(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "HELD", 1)
    files._large = True
    labels = Mapped(files, "label")
    for _ in range(3):
        assert labels[np.array([20, 0, 7])].tolist() == [20, 0, 7]
        assert files._held == 0


@pytest.mark.parametrize("row", [-1, ROWS])
def test_a_row_that_is_not_there_is_no_other_row(files: Files, row: int) -> None:
    with pytest.raises(IndexError, match=f"of {ROWS}"):
        Mapped(files, "label")[np.array([0, row])]
