"""Series: in the order of time, stored once, with splits one after the other, and gaps refused or filled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from tests.data import shared_data
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput

SPEC: dict[str, Any] = {"task": "forecasting", "split": {"time": "date"}, "window": {"input": 8, "horizon": 2}}


def table(path: Path, **instead: str) -> Path:
    """A table of hours with two columns; `instead` replaces lines, by the number of the row."""
    lines = [f"2026-01-{1 + hour // 24:02d} {hour % 24:02d}:00:00,{hour},{hour % 7 / 2}" for hour in range(100)]
    for key, line in instead.items():
        lines[int(key.removeprefix("row"))] = line
    path.write_text("date,load,heat\n" + "\n".join(lines) + "\n")
    return path


def prepared(bench: Any) -> tuple[dict[str, Any], np.ndarray[Any, Any]]:
    prepare(bench)
    about = json.loads((bench.out / "dataset.json").read_text())
    (file,) = about["splits"]["train"]["files"]
    with pa.memory_map(str(bench.out / file)) as source:
        stored = pa.ipc.open_file(source).read_all()
    flat = stored["values"].combine_chunks().flatten().to_numpy()
    return about, flat.reshape(-1, len(about["features"]))


def test_a_series_is_stored_once_and_split_by_shares(make_bench: Any, tmp_path: Path) -> None:
    about, values = prepared(make_bench(table(tmp_path / "load.csv"), **SPEC))
    assert values.shape == (100, 2)
    assert values[:, 0].tolist() == list(range(100))
    spans = {name: (split["begin"], split["end"], split["windows"]) for name, split in about["splits"].items()}
    # Windows of training have what they see in the split too; those of the others see the rows before it.
    assert spans == {"train": (0, 70, 70 - 8 - 2 + 1), "val": (70, 80, 9), "test": (80, 100, 19)}
    assert {split["files"][0] for split in about["splits"].values()} == {"series-00000.arrow"}
    assert about["statistics"]["load"] == {"mean": 34.5, "std": pytest.approx(20.205197), "min": 0.0, "max": 69.0}
    assert about["time"] == {"column": "date", "out_of_order": 0, "step_us": 3_600_000_000, "irregular": 0}


def test_the_sizes_of_the_splits_may_be_given(make_bench: Any, tmp_path: Path) -> None:
    spec = {**SPEC, "split": {"time": "date", "rows": [40, 20, 20]}, "columns": ["heat"]}
    about, values = prepared(make_bench(table(tmp_path / "load.csv"), **spec))
    assert values.shape == (100, 1)
    assert [about["splits"][name]["end"] for name in ("train", "val", "test")] == [40, 60, 80]
    assert [feature["name"] for feature in about["features"]] == ["heat"]


def test_rows_are_brought_into_order_and_gaps_are_filled_with_what_came_before(make_bench: Any, tmp_path: Path) -> None:
    path = table(tmp_path / "load.csv", row3="2026-01-01 03:00:00,,1.0", row4="2026-01-05 00:00:00,96,1")
    path.write_text(path.read_text().replace("2026-01-05 00:00:00,96,2.5\n", "2026-01-01 04:00:00,4,2\n"))
    about, values = prepared(make_bench(path, **SPEC))
    assert values[:6, 0].tolist() == [0, 1, 2, 2, 4, 5]
    assert about["filled"] == {"load": 1}
    assert about["time"]["out_of_order"] == 2


def test_the_same_rows_give_the_same_digest(make_bench: Any, tmp_path: Path) -> None:
    path = table(tmp_path / "load.csv")
    one, other = (prepared(make_bench(path, **SPEC))[0]["digest"] for _ in range(2))
    longer = prepared(make_bench(path, **{**SPEC, "window": {"input": 9, "horizon": 2}}))[0]["digest"]
    assert one == other != longer


@pytest.mark.parametrize(
    ("instead", "spec", "field", "says"),
    [
        ({}, {"split": {"time": "when"}}, "split.time", "no column 'when'"),
        ({}, {"columns": ["cold"]}, "columns", "no column 'cold'"),
        ({}, {"columns": ["date"]}, "columns", "no column 'date'"),
        ({}, {"window": {"input": 60, "horizon": 30}}, "window", "'train' has 70 rows"),
        ({}, {"window": {"input": 8, "horizon": 11}}, "window", "'val' has 10 rows"),
        ({}, {"split": {"time": "date", "rows": [80, 20, 20]}}, "split.rows", "120 rows are asked for"),
        ({"row7": "2026-01-01 06:00:00,7,0"}, {}, "split.time", "1 times of 'date' stand twice"),
        ({"row7": "2026-01-01 07:00:00,x,0", "row8": "2026-01-01 08:00:00,y,0"}, {}, "columns", "first in row 9"),
        ({"row7": "yesterday,7,0", "row8": "today,7,0"}, {}, "max_bad_share", "time that can be read"),
    ],
)
def test_what_is_no_series_is_refused_with_what_is_accepted(
    make_bench: Any, tmp_path: Path, instead: dict[str, str], spec: dict[str, Any], field: str, says: str
) -> None:
    bench = make_bench(table(tmp_path / "load.csv", **instead), **{**SPEC, **spec})
    with pytest.raises(InvalidInput, match=says) as caught:
        prepare(bench)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"window": None}, "forecasting needs"),
        ({"split": {}}, "forecasting needs"),
        ({"target": "load"}, "columns names what is forecast"),
        ({"task": "anomaly-detection"}, "needs target"),
        ({"task": "anomaly-detection", "target": "load", "columns": ["load"]}, "target must be none of columns"),
        ({"columns": ["load", "load"]}, "names one twice"),
        ({"clean": [{"do": "missing"}]}, "accepted: zone, order, deduplicate, resample, fill, outliers"),
        ({"clean": [{"do": "deduplicate", "near": 0.9}]}, "forecasting has exact ones"),
        ({"clean": [{"do": "zone", "name": "Europe/Entenhausen"}]}, "no time zone"),
        ({"clean": [{"do": "resample", "every": "0h"}]}, "should match pattern"),
        ({"task": "tabular", "clean": [{"do": "fill"}]}, "no step for the task tabular"),
        ({"task": "tabular"}, "window is for the tasks forecasting"),
        ({"split": {"time": "date", "rows": [1, 2]}}, "at least 3 items"),
    ],
)
def test_a_spec_of_another_kind_is_refused(spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PrepareSpec.model_validate({"source": "upload://u", **SPEC, **spec})


def labelled(path: Path, **instead: str) -> Path:
    """The table with a third column, which says that rows 40 and 75 are broken."""
    table(path)
    head, *lines = path.read_text().splitlines()
    broken = {str(row): "1" if row in (40, 75) else "0" for row in range(100)} | {
        key.removeprefix("row"): value for key, value in instead.items()
    }
    path.write_text("\n".join([f"{head},broken", *(f"{line},{broken[str(n)]}" for n, line in enumerate(lines))]))
    return path


ANOMALIES = {**SPEC, "task": "anomaly-detection", "target": "broken"}


def test_labels_of_anomalies_stand_beside_the_values(make_bench: Any, tmp_path: Path) -> None:
    bench = make_bench(labelled(tmp_path / "load.csv"), **ANOMALIES)
    about, values = prepared(bench)
    assert values.shape == (100, 2)
    assert [feature["name"] for feature in about["features"]] == ["load", "heat"]
    assert {name: split["anomalies"] for name, split in about["splits"].items()} == {"train": 1, "val": 1, "test": 0}
    with pa.memory_map(str(bench.out / "series-00000.arrow")) as source:
        anomaly = pa.ipc.open_file(source).read_all()["anomaly"].to_numpy()
    assert np.flatnonzero(anomaly).tolist() == [40, 75]
    other = prepared(make_bench(labelled(tmp_path / "load.csv", row41="1"), **ANOMALIES))[0]
    assert other["digest"] != about["digest"]


@pytest.mark.parametrize(
    ("instead", "target", "says"),
    [
        ({"row7": "2"}, "broken", "1 values of 'broken' are neither 0 nor 1, first in row 9"),
        ({"row7": ""}, "broken", "1 values of 'broken' are neither"),
        ({}, "cracked", "no column 'cracked' of labels"),
        ({}, "date", "no column 'date' of labels"),
    ],
)
def test_labels_that_are_none_are_refused(
    make_bench: Any, tmp_path: Path, instead: dict[str, str], target: str, says: str
) -> None:
    bench = make_bench(labelled(tmp_path / "load.csv", **instead), **{**ANOMALIES, "target": target})
    with pytest.raises(InvalidInput, match=says) as caught:
        prepare(bench)
    assert caught.value.field == "target"


def test_the_transformer_temperatures_have_their_usual_windows(make_bench: Any) -> None:
    spec = {
        "split": {"time": "date", "rows": [12 * 30 * 24, 4 * 30 * 24, 4 * 30 * 24]},
        "window": {"input": 336, "horizon": 96},
    }
    about, values = prepared(make_bench(shared_data() / "ett/ETTh1.csv", **{**SPEC, **spec}))
    assert values.shape == (17420, 7)
    assert [about["splits"][name]["windows"] for name in ("train", "val", "test")] == [8209, 2785, 2785]
    assert about["time"]["irregular"] == 0
