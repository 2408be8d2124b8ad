"""Images and documents whose folders say their splits, as many published sets come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tests.data import shared_data
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.domain import splitting
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]
IMAGES: dict[str, Any] = {"task": "image-classification"}
TEXTS: dict[str, Any] = {"task": "text-classification"}


def images(root: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """So many images of two classes in each of these folders."""
    rng = np.random.default_rng(seed)
    for folder, count in counts.items():
        for number in range(count):
            path = root / folder / "ab"[number % 2] / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8)).save(path)
    return root


def texts(root: Path, counts: dict[str, int]) -> Path:
    """So many documents, likewise."""
    for folder, count in counts.items():
        for number in range(count):
            path = root / folder / "ab"[number % 2] / f"{number:03d}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"text {number} of {folder}")
    return root


def ids(bench: Workbench, split: str) -> list[int]:
    """Which rows of the source a split holds."""
    with pa.memory_map(str(bench.out / f"{split}-00000.arrow")) as source:
        found: list[int] = pa.ipc.open_file(source).read_all()["id"].to_pylist()
        return found


@pytest.mark.parametrize(("write", "spec"), [(images, IMAGES), (texts, TEXTS)])
def test_splits_are_those_of_the_folders(
    make_bench: MakeBench, tmp_path: Path, write: Callable[..., Path], spec: dict[str, Any]
) -> None:
    bench = make_bench(write(tmp_path / "set", {"test": 10, "train": 40, "valid": 6}), **spec)
    assert prepare(bench).outputs["rows"] == {"train": 40, "val": 6, "test": 10}
    assert [ids(bench, split) for split in splitting.SPLITS] == [
        list(range(10, 50)),
        list(range(50, 56)),
        list(range(10)),
    ]


@pytest.mark.parametrize(("write", "spec"), [(images, IMAGES), (texts, TEXTS)])
def test_validation_comes_from_training_where_no_folder_has_it(
    make_bench: MakeBench, tmp_path: Path, write: Callable[..., Path], spec: dict[str, Any]
) -> None:
    bench = make_bench(write(tmp_path / "set", {"in/test": 10, "in/train": 40}), split={"val": 0.25}, **spec)
    assert prepare(bench).outputs["rows"] == {"train": 30, "val": 10, "test": 10}
    assert ids(bench, "test") == list(range(10))


@pytest.mark.parametrize(("write", "spec"), [(images, IMAGES), (texts, TEXTS)])
def test_one_file_in_two_splits_is_a_leak_and_refused_unless_doubles_go(
    make_bench: MakeBench, tmp_path: Path, write: Callable[..., Path], spec: dict[str, Any]
) -> None:
    root = write(tmp_path / "set", {"test": 10, "train": 40, "val": 6})
    suffix = ".png" if write is images else ".txt"
    (root / "train" / "b" / f"other{suffix}").write_bytes((root / "test" / "b" / f"003{suffix}").read_bytes())
    with pytest.raises(InvalidInput, match="leak: 1 rows stand in two splits, for example") as caught:
        prepare(make_bench(root, **spec))
    assert caught.value.field == "split"
    outputs = prepare(make_bench(root, clean=[{"do": "deduplicate"}], **spec)).outputs
    assert outputs["rows"] == {"train": 40, "val": 6, "test": 10}
    assert outputs["removed"] == {"deduplicate": 1}


@pytest.mark.parametrize(("write", "spec"), [(images, IMAGES), (texts, TEXTS)])
def test_folders_of_which_some_say_no_split_are_refused(
    make_bench: MakeBench, tmp_path: Path, write: Callable[..., Path], spec: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match=r"'more/a/000\.\w+' does not") as caught:
        prepare(make_bench(write(tmp_path / "set", {"more": 2, "test": 10, "train": 40}), **spec))
    assert caught.value.accepted == "SPLIT/CLASS/FILE for all files, or CLASS/FILE for all"


@pytest.mark.parametrize(("write", "spec"), [(images, IMAGES), (texts, TEXTS)])
def test_a_split_that_no_folder_has_is_named(
    make_bench: MakeBench, tmp_path: Path, write: Callable[..., Path], spec: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput, match="no row is in the split 'test'"):
        prepare(make_bench(write(tmp_path / "set", {"val": 10, "train": 40}), **spec))


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["train/a/1", "test/a/2"], ["train", "test"]),
        (["set/Training/a/1", "set/dev/a/2"], None),
        (["train/a/1", "train/test/2"], None),
        (["a/test-1", "b/train-2"], None),
        (["train/a/1", "test/a/2", "readme"], ["train", "test", "train"]),
        (["imgs_train/deep/a/1", "imgs_val/deep/a/2"], ["train", "val"]),
    ],
)
def test_a_folder_above_that_of_the_class_says_it(paths: list[str], expected: list[str] | None) -> None:
    try:
        assert splitting.of_folders([PurePath(path) for path in paths]) == expected
    except InvalidInput:
        assert expected is None


@pytest.mark.slow
def test_cifar_10_keeps_the_splits_of_its_folders(make_bench: MakeBench) -> None:
    archive = shared_data() / "cifar10" / "cifar10_train10k_test2k.zip"
    bench = make_bench(archive, split={"val": 0.05}, **IMAGES)
    made = prepare(bench)
    assert made.outputs["rows"] == {"train": 9500, "val": 500, "test": 2000}
    about = json.loads((bench.out / "dataset.json").read_text())
    assert about["splits"]["test"]["class_counts"] == [200] * 10
    assert len(about["target"]["classes"]) == 10
