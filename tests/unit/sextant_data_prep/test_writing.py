"""Dataset versions as files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from sextant_data_prep import writing
from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.domain.samples import Feature, Samples, encode_labels, statistics
from sextant_shared.errors import InvalidInput

SPLITS = ["train", "train", "val", "train", "test", "train"]


def pictures(seed: int = 0) -> Samples:
    """Six images of two channels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 2, 3, 4), np.uint8)
    ids = np.arange(10, 16)
    return Samples(
        [Feature("image", "uint8", (2, 3, 4))], {"image": pixels}, list("aabbab"), "class", ids, Quarantine()
    )


def write(directory: Path, samples: Samples, splits: list[str] = SPLITS) -> dict[str, Any]:
    """Write to a directory that is made first."""
    directory.mkdir()
    classes, labels = encode_labels(samples)
    return writing.write(directory, samples, classes, labels, splits, {"task": "image-classification"})


def table(path: Path) -> Any:
    """An Arrow file, memory-mapped."""
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


def image_column(path: Path) -> NDArray[np.uint8]:
    """The images of an Arrow file as they lie there."""
    values: NDArray[np.uint8] = table(path)["image"].chunk(0).flatten().to_numpy(zero_copy_only=True)
    return values.reshape(-1, 2, 3, 4)


def test_each_split_holds_its_rows_with_labels_and_source_numbers(tmp_path: Path) -> None:
    samples = pictures()
    about = write(tmp_path / "out", samples)
    train = table(tmp_path / "out" / about["splits"]["train"]["files"][0])
    assert train["id"].to_pylist() == [10, 11, 13, 15]
    assert train["label"].to_pylist() == [0, 0, 1, 1]
    stored = image_column(tmp_path / "out" / "train-00000.arrow")
    assert np.array_equal(stored, samples.columns["image"][[0, 1, 3, 5]])


def test_a_file_is_read_from_the_map_without_a_copy(tmp_path: Path) -> None:
    write(tmp_path / "out", pictures())
    before = pa.total_allocated_bytes()
    stored = image_column(tmp_path / "out" / "train-00000.arrow")
    assert stored.size == 4 * 24
    assert pa.total_allocated_bytes() == before


def test_the_description_on_disk_says_what_the_files_hold(tmp_path: Path) -> None:
    about = write(tmp_path / "out", pictures())
    assert json.loads((tmp_path / "out" / "dataset.json").read_text()) == about
    assert about["target"] == {"name": "class", "classes": ["a", "b"]}
    assert about["features"] == [{"name": "image", "dtype": "uint8", "shape": [2, 3, 4]}]
    assert {name: split["class_counts"] for name, split in about["splits"].items()} == {
        "train": [2, 2],
        "val": [0, 1],
        "test": [1, 0],
    }


def test_the_same_samples_have_the_same_digest(tmp_path: Path) -> None:
    assert write(tmp_path / "a", pictures())["digest"] == write(tmp_path / "b", pictures())["digest"]


def test_other_pixels_labels_splits_or_class_names_have_another_digest(tmp_path: Path) -> None:
    base = pictures()
    pixels = base.columns["image"].copy()
    pixels[0, 0, 0, 0] ^= 1
    others = [
        (Samples(base.features, {"image": pixels}, base.labels, "class", base.ids, Quarantine()), SPLITS),
        (Samples(base.features, base.columns, list("abbbab"), "class", base.ids, Quarantine()), SPLITS),
        (Samples(base.features, base.columns, list("ccbbcb"), "class", base.ids, Quarantine()), SPLITS),
        (base, ["train", "val", "train", "train", "test", "train"]),
    ]
    digests = [write(tmp_path / str(n), samples, splits)["digest"] for n, (samples, splits) in enumerate(others)]
    assert len({write(tmp_path / "base", base)["digest"], *digests}) == 5


def test_rows_that_were_left_out_are_listed_with_their_reasons(tmp_path: Path) -> None:
    samples = pictures()
    samples.quarantine.add(7, "cannot be decoded")
    write(tmp_path / "out", samples)
    lines = (tmp_path / "out" / "quarantine.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"row": 7, "reason": "cannot be decoded"}]


def test_texts_and_numbers_are_stored_as_they_are(tmp_path: Path) -> None:
    columns = {"t": ["ä", "b", "", "d", "e", "f"], "x": np.arange(6, dtype=np.float32)}
    features = [Feature("t", "string"), Feature("x", "float32")]
    write(tmp_path / "out", Samples(features, columns, list("ababab"), "y", np.arange(6), Quarantine()))
    train = table(tmp_path / "out" / "train-00000.arrow")
    assert train["t"].to_pylist() == ["ä", "b", "d", "f"]
    assert train["x"].type == pa.float32()
    assert train["x"].to_pylist() == [0.0, 1.0, 3.0, 5.0]


def test_statistics_are_by_channel_and_of_the_training_split_alone() -> None:
    samples = pictures()
    train = np.array([0, 1, 3, 5])
    found = statistics(samples, train)["image"]
    pixels = samples.columns["image"][train].astype(np.float64)
    # Sums of at most 48 small integers, exact in float64; only the division and the root may round.
    assert found["mean"] == pytest.approx([pixels[:, channel].mean() for channel in range(2)], rel=1e-12)
    assert found["std"] == pytest.approx([pixels[:, channel].std() for channel in range(2)], rel=1e-12)
    assert (found["min"], found["max"]) == (pixels.min(), pixels.max())
    samples.columns["image"][[2, 4]] = 255
    assert statistics(samples, train)["image"] == found


def test_statistics_of_texts_are_their_lengths() -> None:
    samples = Samples(
        [Feature("t", "string")], {"t": ["a", "bbbb", "cc"]}, list("aba"), "y", np.arange(3), Quarantine()
    )
    assert statistics(samples, np.array([0, 2])) == {"t": {"min_length": 1, "max_length": 2}}


def test_a_single_class_is_nothing_to_learn() -> None:
    one = Samples([Feature("x", "float32")], {"x": np.zeros(2)}, ["a", "a"], "y", np.arange(2), Quarantine())
    with pytest.raises(InvalidInput, match="same label 'a'") as caught:
        encode_labels(one)
    assert caught.value.field == "target"
