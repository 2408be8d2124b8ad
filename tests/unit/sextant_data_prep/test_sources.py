"""Uploads of several tables: read as one, with the splits that their names say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.domain import splitting
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]


@pytest.fixture
def make(make_bench: MakeBench, tmp_path: Path) -> Callable[..., Workbench]:
    """Prepares a folder of CSV files, given as lines by name; the workbench with what was made."""

    def run(files: dict[str, list[str]], **spec: Any) -> Workbench:
        for name, lines in files.items():
            path = tmp_path / "up" / "set" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(lines) + "\n")
        bench = make_bench(tmp_path / "up" / "set", task="tabular", target="y", **spec)
        prepare(bench)
        return bench

    return run


def lines(first: int, last: int) -> list[str]:
    """A table of rows that all differ."""
    return ["x,y", *(f"{number},{'ab'[number % 2]}" for number in range(first, last))]


def rows(bench: Workbench, *splits: str) -> list[dict[str, Any]]:
    """The rows of some splits, or of all, in the order of the source."""
    found: list[dict[str, Any]] = []
    for split in splits or splitting.SPLITS:
        found += pa.ipc.open_file(pa.memory_map(str(bench.out / f"{split}-00000.arrow"))).read_all().to_pylist()
    return sorted(found, key=lambda row: row["id"])


def described(bench: Workbench) -> dict[str, Any]:
    """The description of the dataset version."""
    found: dict[str, Any] = json.loads((bench.out / "dataset.json").read_text())
    return found


def test_tables_with_the_same_columns_are_one_and_rows_are_numbered_on(make: Callable[..., Workbench]) -> None:
    files = {"b.csv": ["y,x", "a,60", "ragged", "b,61"], "a.csv": lines(0, 60), "notes.md": ["no table"]}
    bench = make(files, max_bad_share=0.02)
    assert [row["x"] for row in rows(bench)] == list(range(62))
    assert [row["id"] for row in rows(bench)] == [*range(2, 62), 63, 65]
    assert described(bench)["files"] == {"a.csv": 0, "b.csv": 61}
    assert json.loads((bench.out / "quarantine.jsonl").read_text()) == {"row": 64, "reason": "does not have 2 columns"}


def test_names_that_say_the_split_decide_and_validation_comes_from_training(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    for name, first, last in (("train-00000-of-00002", 0, 80), ("train-00001-of-00002", 80, 100), ("test", 100, 120)):
        table = pa.table({"x": range(first, last), "y": ["ab"[n % 2] for n in range(first, last)]})
        (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, tmp_path / "set" / "data" / f"{name}.parquet")
    (tmp_path / "set" / "dataset_infos.json").write_text("{}")
    bench = make_bench(tmp_path / "set", task="tabular", target="y", split={"val": 0.2})
    assert prepare(bench).outputs["rows"] == {"train": 80, "val": 20, "test": 20}
    assert [row["x"] for row in rows(bench, "test")] == list(range(100, 120))
    assert described(bench)["splits"]["val"]["class_counts"] == [10, 10]
    assert [feature["name"] for feature in described(bench)["features"]] == ["x"]


def test_validation_stays_as_it_is_given(make: Callable[..., Workbench]) -> None:
    bench = make({"train/1.csv": lines(0, 40), "dev/1.csv": lines(40, 50), "test/1.csv": lines(50, 60)})
    assert [row["x"] for row in rows(bench, "val")] == list(range(40, 50))


def test_a_row_in_two_files_of_different_splits_is_a_leak_and_refused(make: Callable[..., Workbench]) -> None:
    files = {"train.csv": lines(0, 60), "test.csv": lines(59, 70)}
    with pytest.raises(InvalidInput, match="leak: 1 rows stand in two splits, for example source rows 2 and 73"):
        make(files)
    kept = make(files, clean=[{"do": "deduplicate"}])
    assert (len(rows(kept)), len(rows(kept, "test"))) == (70, 11)


def test_a_split_that_the_spec_names_goes_before_those_of_the_files(make: Callable[..., Workbench]) -> None:
    dated = {
        name: ["when,x,y", *(f"{number},{number},{'ab'[number % 2]}" for number in numbers)]
        for name, numbers in (("train.csv", range(40, 100)), ("test.csv", range(40)))
    }
    bench = make(dated, split={"time": "when", "val": 0.1, "test": 0.1})
    assert [row["x"] for row in rows(bench, "test")] == list(range(90, 100))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.csv": lines(0, 9), "b.csv": ["x,z,y", "1,2,a"]}, "b.csv: it and a.csv do not have the same columns: 'z'"),
        ({"a.csv": lines(0, 9), "b.csv": [""]}, "b.csv: the header is missing: the file is empty"),
        ({"a.csv": lines(0, 9), "b.jsonl": ["{}"]}, "the upload holds tables of several kinds: .csv, .jsonl"),
        (
            {"train.csv": lines(0, 9), "test.csv": lines(9, 12), "x.csv": lines(12, 15)},
            "the names of some tables say their split, and 'x.csv' does not",
        ),
    ],
)
def test_tables_that_do_not_go_together_are_refused(
    make: Callable[..., Workbench], files: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        make(files)
    assert caught.value.message == message
    assert caught.value.accepted


def test_hidden_files_and_those_that_macos_adds_do_not_count(make_bench: MakeBench, tmp_path: Path) -> None:
    for number in range(40):
        for folder in ("set", "set/__MACOSX", "set/.cache"):
            path = tmp_path / folder / "ab"[number % 2] / f"{'' if folder == 'set' else '._'}{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"no image")
        Image.new("L", (4, 4), number).save(tmp_path / "set" / "ab"[number % 2] / f"{number}.png")
    outputs = prepare(make_bench(tmp_path / "set", task="image-classification")).outputs
    assert (sum(outputs["rows"].values()), outputs["quarantined"]["rows"]) == (40, 0)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train.csv", "train"),
        ("data/validation-00000-of-00001.parquet", "val"),
        ("test/part-1.parquet", "test"),
        ("train/test_2.csv", "test"),
        ("train_test.csv", None),
        ("latest/training.csv", None),
    ],
)
def test_a_split_is_a_word_of_the_name(path: str, split: str | None) -> None:
    assert splitting.of_path(PurePath(path)) == split
