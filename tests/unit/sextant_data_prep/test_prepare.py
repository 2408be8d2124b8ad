"""The whole of a `prepare` job, from a file to a dataset version."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import WORK_EVENT, Progress, Workbench

MakeBench = Callable[..., Workbench]


def table(directory: Path, rows: int = 100, bad: int = 0) -> Path:
    """A CSV file; the last `bad` rows are ragged."""
    good = [f"{row},{row % 7},{'ab'[row % 2]}" for row in range(rows - bad)]
    path = directory / "data.csv"
    path.write_text("\n".join(["x,z,y", *good, *["1"] * bad]) + "\n")
    return path


def images_in_a_zip(directory: Path, good: int, bad: int) -> Path:
    """Images of two classes; the bad ones hold no image."""
    path = directory / "images.zip"
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(good + bad):
            with packed.open(f"set/{'ab'[number % 2]}/{number:03d}.png", "w") as out:
                if number < good:
                    Image.fromarray(rng.integers(0, 256, (6, 6), np.uint8)).save(out, "PNG")
                else:
                    out.write(b"broken")
    return path


def rows_of(bench: Workbench, split: str) -> list[dict[str, Any]]:
    """What a split holds."""
    with pa.memory_map(str(bench.out / f"{split}-00000.arrow")) as source:
        rows: list[dict[str, Any]] = pa.ipc.open_file(source).read_all().to_pylist()
        return rows


def test_a_table_becomes_a_registered_version_with_exact_shares(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(table(tmp_path), task="tabular", target="y", register_as="flowers")
    result = prepare(bench)
    assert result.outputs["rows"] == {"train": 70, "val": 10, "test": 20}
    (registered,) = result.registers
    assert (registered.type, registered.name, registered.output) == ("dataset", "flowers", "dataset")
    arrow = ["test-00000.arrow", "train-00000.arrow", "val-00000.arrow"]
    assert sorted(registered.files) == ["dataset.json", "report.html", *arrow]
    assert registered.meta == json.loads((bench.out / "dataset.json").read_text())


def test_every_good_row_is_in_one_split_and_one_only(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(table(tmp_path, rows=100, bad=1), task="tabular", target="y")
    result = prepare(bench)
    found = [row["id"] for split in ("train", "val", "test") for row in rows_of(bench, split)]
    assert sorted(found) == list(range(2, 101))
    assert result.outputs["quarantined"] == {"rows": 1, "reasons": {"does not have 3 columns": 1}}
    assert "quarantine.jsonl" in result.registers[0].files
    quarantined = json.loads((bench.out / "quarantine.jsonl").read_text())
    assert quarantined == {"row": 101, "reason": "does not have 3 columns"}


def test_statistics_do_not_know_the_rows_that_are_held_out(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(table(tmp_path), task="tabular", target="y")
    meta = prepare(bench).registers[0].meta
    values = [row["x"] for row in rows_of(bench, "train")]
    assert meta["statistics"]["x"]["mean"] == pytest.approx(np.mean(values), rel=1e-12)
    assert meta["statistics"]["x"]["std"] == pytest.approx(np.std(values), rel=1e-12)


def test_the_same_upload_gives_the_same_version_and_another_seed_another(make_bench: MakeBench, tmp_path: Path) -> None:
    upload = table(tmp_path)
    first, again, other = (
        prepare(make_bench(upload, task="tabular", target="y", seed=seed)).registers[0].meta["digest"]
        for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_doubled_rows_are_counted_and_never_stand_in_two_splits(make_bench: MakeBench, tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("x,y\n" + "".join(f"{row % 30},{'ab'[row % 2]}\n" for row in range(90)))
    bench = make_bench(path, task="tabular", target="y")
    assert prepare(bench).registers[0].meta["duplicates"] == 60
    values = [{row["x"] for row in rows_of(bench, split)} for split in ("train", "val", "test")]
    assert sum(map(len, values)) == len(set.union(*values)) == 30


def test_images_come_out_of_an_archive_and_a_few_bad_ones_are_left_out(make_bench: MakeBench, tmp_path: Path) -> None:
    upload = images_in_a_zip(tmp_path, good=60, bad=3)
    bench = make_bench(upload, task="image-classification", max_bad_share=0.05)
    result = prepare(bench)
    assert result.outputs["quarantined"] == {"rows": 3, "reasons": {"cannot be decoded": 3}}
    assert result.registers[0].meta["target"]["classes"] == ["a", "b"]
    assert not (bench.out / "unpacked").exists()


def test_too_many_bad_rows_fail_the_job_with_the_counts(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(images_in_a_zip(tmp_path, good=18, bad=2), task="image-classification")
    with pytest.raises(InvalidInput) as caught:
        prepare(bench)
    assert caught.value.message == "2 of 20 rows (10.0%) are bad; most: cannot be decoded: 2"
    assert caught.value.field == "max_bad_share"
    assert list(bench.out.iterdir()) == []


def test_exactly_the_accepted_share_of_bad_rows_passes(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = make_bench(table(tmp_path, rows=100, bad=1), task="tabular", target="y", max_bad_share=0.01)
    assert prepare(bench).outputs["quarantined"]["rows"] == 1


def test_one_file_of_an_upload_can_be_chosen(make_bench: MakeBench, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as packed:
        packed.write(table(tmp_path), "in/a.csv")
        packed.writestr("in/b.csv", "x,y\n")
    upload = tmp_path / "two.zip"
    with pytest.raises(InvalidInput, match="do not have the same columns: 'z'"):
        prepare(make_bench(upload, task="tabular", target="y"))
    chosen = make_bench(upload, task="tabular", target="y", source="upload://u/in/a.csv")
    assert prepare(chosen).outputs["rows"]["train"] == 70


@pytest.mark.parametrize("inside", ["in/c.csv", "../data.csv"])
def test_a_path_that_the_upload_does_not_hold_is_refused(make_bench: MakeBench, tmp_path: Path, inside: str) -> None:
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as packed:
        packed.write(table(tmp_path), "in/a.csv")
    bench = make_bench(tmp_path / "one.zip", task="tabular", target="y", source=f"upload://u/{inside}")
    with pytest.raises(InvalidInput):
        prepare(bench)


def test_too_few_rows_for_three_splits_are_refused(make_bench: MakeBench, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="4 rows are too few") as caught:
        prepare(make_bench(table(tmp_path, rows=4), task="tabular", target="y"))
    assert caught.value.field == "split"


def test_progress_rises_to_its_end(make_bench: MakeBench) -> None:
    bench = make_bench(source="package://sklearn/iris", task="tabular")
    prepare(bench)
    events = [WORK_EVENT.validate_json(line) for line in (bench.directory / "events").read_bytes().splitlines()]
    fractions = [event.fraction for event in events if isinstance(event, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


def test_the_same_rows_under_another_name_are_the_same_files(make_bench: MakeBench, tmp_path: Path) -> None:
    found = []
    for name in ("flowers", "weeds"):
        (tmp_path / name).mkdir()
        bench = make_bench(
            table(tmp_path / name), task="tabular", target="y", register_as=name, source=f"upload://{name}"
        )
        assert prepare(bench).registers[0].name == name
        found.append({path.name: path.read_bytes() for path in bench.out.iterdir()})
    assert found[0] == found[1]
