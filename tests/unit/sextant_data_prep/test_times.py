"""Splits by time: no row is trained on that is later than one it is tested on."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.domain import times
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]
DATA = Path(os.environ.get("SEXTANT_DATA", Path(__file__).parents[4] / "shared" / "data"))


def read(text: str) -> int | None:
    """A time in microseconds."""
    found: int | None = pl.DataFrame({"t": [text]}).select(times.microseconds("t")).item()
    return found


def rows(bench: Workbench, split: str) -> list[dict[str, Any]]:
    """The rows of a split."""
    found: list[dict[str, Any]] = (
        pa.ipc.open_file(pa.memory_map(str(bench.out / f"{split}-00000.arrow"))).read_all().to_pylist()
    )
    return found


def table(path: Path, moments: list[str]) -> Path:
    """A CSV file with these times, in this order; `x` is the row's number."""
    lines = ["when,x,y", *(f"{when},{number},{'ab'[number % 2]}" for number, when in enumerate(moments))]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_same_moment_is_the_same_number_however_it_is_written() -> None:
    noon = 1_709_208_000_000_000
    assert read("2024-02-29 12:00") == read("2024-02-29T12:00:00") == read("2024-02-29 12:00:00.000") == noon
    assert read("2024-02-29T12:00:00Z") == read("2024-02-29T13:00:00+01:00") == read("2024-02-29 07:00:00-0500") == noon
    assert read("2024-02-29") == noon - 12 * 3600 * 10**6
    assert read("1709208000") == noon


@pytest.mark.parametrize("text", ["2023-02-29", "yesterday", "29.02.2024", "2024-02-29T25:00:00", "inf"])
def test_what_is_no_time_is_none(text: str) -> None:
    assert read(text) is None


def test_rows_go_by_time_whatever_their_order(make_bench: MakeBench, tmp_path: Path) -> None:
    days = [f"2024-{1 + day // 28:02d}-{1 + day % 28:02d}" for day in range(100)]
    shuffled = random.Random(0).sample(range(100), 100)
    path = table(tmp_path / "data.csv", [days[day] for day in shuffled])
    bench = make_bench(path, task="tabular", target="y", split={"time": "when"})
    meta = prepare(bench).registers[0].meta
    places = {split: sorted(shuffled[int(row["x"])] for row in rows(bench, split)) for split in meta["splits"]}
    assert places == {"train": list(range(70)), "val": list(range(70, 80)), "test": list(range(80, 100))}
    assert meta["time"]["test_from_us"] == read(days[80])
    assert meta["time"]["out_of_order"] > 0
    assert [feature["name"] for feature in meta["features"]] == ["x"]


def test_rows_of_the_same_time_go_together(make_bench: MakeBench, tmp_path: Path) -> None:
    path = table(tmp_path / "data.csv", [str(number // 7) for number in range(105)])
    bench = make_bench(path, task="tabular", target="y", split={"time": "when"})
    prepare(bench)
    found = [{int(row["x"]) // 7 for row in rows(bench, split)} for split in ("train", "val", "test")]
    assert max(found[0]) < min(found[1])
    assert max(found[1]) < min(found[2])


def test_a_time_that_cannot_be_read_is_a_bad_row(make_bench: MakeBench, tmp_path: Path) -> None:
    path = table(tmp_path / "data.csv", ["soon", *(str(number) for number in range(99))])
    bench = make_bench(path, task="tabular", target="y", split={"time": "when"})
    assert prepare(bench).outputs["quarantined"]["reasons"] == {"its time cannot be read": 1}


def test_one_time_alone_cannot_be_split(make_bench: MakeBench, tmp_path: Path) -> None:
    path = table(tmp_path / "data.csv", ["2024-01-01"] * 40)
    with pytest.raises(InvalidInput, match="40 rows have too few different times for three splits"):
        prepare(make_bench(path, task="tabular", target="y", split={"time": "when"}))


def test_times_with_and_without_a_zone_are_refused(make_bench: MakeBench, tmp_path: Path) -> None:
    path = table(tmp_path / "data.csv", ["2024-01-01T00:00:00", "2024-01-01T00:00:00+02:00"] * 20)
    with pytest.raises(InvalidInput, match="some times have a zone") as caught:
        prepare(make_bench(path, task="tabular", target="y", split={"time": "when"}))
    assert caught.value.field == "split.time"


@pytest.mark.skipif(not (DATA / "ett").is_dir(), reason=f"the data set ett is not in {DATA}")
def test_hours_of_a_real_series_are_split_in_order(make_bench: MakeBench, tmp_path: Path) -> None:
    frame = pl.read_csv(DATA / "ett" / "ETTh1.csv").with_columns(pl.col("OT") > pl.col("OT").median())
    frame.write_csv(tmp_path / "data.csv")
    bench = make_bench(tmp_path / "data.csv", task="tabular", target="OT", split={"time": "date"})
    meta = prepare(bench).registers[0].meta
    assert meta["time"]["out_of_order"] == 0
    ids = [sorted(row["id"] for row in rows(bench, split)) for split in ("train", "val", "test")]
    assert [ids[0][0], ids[1][0], ids[2][0]] == [2, ids[0][-1] + 1, ids[1][-1] + 1]
