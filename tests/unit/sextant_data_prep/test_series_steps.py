"""Cleaning steps of series: zones, order, doubles, resampling, gaps, outliers; nothing is learnt from later splits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_shared.errors import InvalidInput

HOUR = 3_600_000_000
SPEC: dict[str, Any] = {"task": "forecasting", "split": {"time": "t"}, "window": {"input": 4, "horizon": 1}}


def table(path: Path, rows: dict[str, str], columns: str = "x") -> Path:
    path.write_text(f"t,{columns}\n" + "\n".join(f"{time},{values}" for time, values in rows.items()) + "\n")
    return path


def hours(count: int = 100) -> dict[str, str]:
    """Times of an hour each, with the number of the hour."""
    return {f"2026-01-{1 + hour // 24:02d} {hour % 24:02d}:00": str(hour) for hour in range(count)}


def made(bench: Any) -> tuple[dict[str, Any], Any, Any]:
    """The description, the times, and the values (rows, columns)."""
    prepare(bench)
    about = json.loads((bench.out / "dataset.json").read_text())
    with pa.memory_map(str(bench.out / "series-00000.arrow")) as source:
        stored = pa.ipc.open_file(source).read_all()
    values = stored["values"].combine_chunks().flatten().to_numpy().reshape(-1, len(about["features"]))
    return about, stored["time"].to_numpy(), values


def test_rows_are_brought_to_one_a_length_of_time(make_bench: Any, tmp_path: Path) -> None:
    rows = {f"2026-01-01 {at // 60:02d}:{at % 60:02d}": str(at) for at in range(0, 1200, 10) if not 300 <= at < 420}
    steps = [{"do": "resample", "every": "1h"}, {"do": "fill", "method": "linear"}]
    about, times, values = made(make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=steps))
    assert np.diff(times).tolist() == [HOUR] * 19
    # The mean of 0, 10, ... 50 in each hour; two hours without a row lie between those around.
    assert values[:, 0].tolist() == [25.0 + 60 * hour for hour in range(20)]
    assert about["filled"] == {"x": 2}
    assert about["time"]["irregular"] == 0


@pytest.mark.parametrize(
    ("take", "value"),
    [("sum", 150), ("min", 0), ("max", 50), ("first", 0), ("last", 50), ("median", 25), ("mean", 25)],
)
def test_what_stands_for_an_hour_can_be_chosen(make_bench: Any, tmp_path: Path, take: str, value: float) -> None:
    rows = {f"2026-01-01 {at // 60:02d}:{at % 60:02d}": str(at) for at in range(0, 1200, 10)}
    steps = [{"do": "resample", "every": "60m", "take": take}]
    _, _, values = made(make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=steps))
    assert values[0, 0] == value


def test_an_hour_is_an_anomaly_where_any_row_of_it_is_one(make_bench: Any, tmp_path: Path) -> None:
    rows = {f"2026-01-01 {at // 60:02d}:{at % 60:02d}": f"{at},{int(at == 610)}" for at in range(0, 1200, 10)}
    spec = {**SPEC, "task": "anomaly-detection", "target": "y", "clean": [{"do": "resample", "every": "1h"}]}
    bench = make_bench(table(tmp_path / "a.csv", rows, "x,y"), **spec)
    made(bench)
    with pa.memory_map(str(bench.out / "series-00000.arrow")) as source:
        labels = pa.ipc.open_file(source).read_all()["anomaly"].to_numpy()
    assert np.flatnonzero(labels).tolist() == [10]


@pytest.mark.parametrize(("method", "at_border"), [("linear", 68.0), ("previous", 68.0)])
def test_a_gap_over_a_border_is_filled_without_the_later_split(
    make_bench: Any, tmp_path: Path, method: str, at_border: float
) -> None:
    rows = hours()
    # Training ends with row 69: what follows the gap is validation.
    for hour in (10, 11, 69, 70, 71):
        rows[list(rows)[hour]] = ""
    steps = [{"do": "fill", "method": method, "max_gap": 3}]
    about, _, values = made(make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=steps))
    assert about["filled"] == {"x": 5}
    assert values[69, 0] == at_border
    assert values[10:12, 0].tolist() == ([10.0, 11.0] if method == "linear" else [9.0, 9.0])
    # Rows of validation may look back to the end of training.
    assert values[70:72, 0].tolist() == (
        [pytest.approx(69.333, abs=1e-3), pytest.approx(70.667, abs=1e-3)] if method == "linear" else [68.0, 68.0]
    )


def test_a_beginning_without_values_is_filled_from_training_alone(make_bench: Any, tmp_path: Path) -> None:
    rows = hours()
    for hour in range(3):
        rows[list(rows)[hour]] = ""
    _, _, values = made(make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=[{"do": "fill"}]))
    assert values[:4, 0].tolist() == [3.0] * 4
    for hour in range(70):
        rows[list(rows)[hour]] = ""
    with pytest.raises(InvalidInput, match="no value in the training split"):
        prepare(make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=[{"do": "fill"}]))


def test_the_limits_of_outliers_are_those_of_the_training_rows(make_bench: Any, tmp_path: Path) -> None:
    rows = hours()
    rows[list(rows)[50]], rows[list(rows)[90]] = "1e6", "-1e6"
    plain = {key: value for key, value in rows.items() if key not in (list(rows)[50],)}
    steps = [{"do": "outliers", "distance": 1.5}]
    about, _, values = made(make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=steps))
    train = np.array([float(value) for value in list(rows.values())[:70]])
    low, high = np.quantile(train, (0.25, 0.75))
    found = about["outliers"]["x"]
    assert (found["low"], found["high"]) == pytest.approx((low - 1.5 * (high - low), high + 1.5 * (high - low)))
    assert found["rows"] == 2
    assert (values.max(), values.min()) == pytest.approx((found["high"], found["low"]), rel=1e-6)
    assert len(plain) == 99
    flagged = made(
        make_bench(tmp_path / "a.csv", **SPEC, clean=[{"do": "outliers", "distance": 1.5, "action": "flag"}])
    )
    assert flagged[2].max() == 1e6
    assert flagged[0]["outliers"]["x"]["rows"] == 2


def test_times_of_a_zone_become_moments(make_bench: Any, tmp_path: Path) -> None:
    # In Berlin the clocks went from 02:00 to 03:00 on 29 March 2026.
    rows = {f"2026-03-{28 + hour // 24:02d} {hour % 24:02d}:00": str(hour) for hour in range(48)}
    steps = [{"do": "zone", "name": "Europe/Berlin"}]
    bench = make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=steps, max_bad_share=0.05)
    about, times, values = made(bench)
    assert np.diff(times).tolist() == [HOUR] * 46
    assert times[0] == np.datetime64("2026-03-27T23:00", "us").astype(int)
    assert 26.0 not in values[:, 0]
    assert about["quarantined"]["reasons"] == {"has a time that Europe/Berlin never had": 1}
    zoned = {f"{time}:00+01:00": value for time, value in rows.items()}
    with pytest.raises(InvalidInput, match="need no step"):
        prepare(make_bench(table(tmp_path / "b.csv", zoned), **SPEC, clean=steps))


def test_of_rows_of_the_same_time_the_first_stays(make_bench: Any, tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", hours())
    path.write_text(path.read_text() + "2026-01-01 05:00,500\n2026-01-01 05:00,600\n")
    bench = make_bench(path, **SPEC, clean=[{"do": "deduplicate"}])
    about, _, values = made(bench)
    assert values[5, 0] == 5.0
    assert len(values) == 100
    assert about["removed"] == {"deduplicate": 2}
    removed = [json.loads(line) for line in (bench.out / "removed.jsonl").read_text().splitlines()]
    assert [row["row"] for row in removed] == [102, 103]


@pytest.mark.parametrize(
    ("change", "steps", "field", "says"),
    [
        ("swap", [{"do": "order"}], "clean", "1 rows stand before an earlier one"),
        ("gap", [{"do": "order"}], "clean", "1 of 97 steps are not of 3600 s, the first after 2026-01-02 05:00:00"),
        (
            "hole",
            [{"do": "fill", "max_gap": 2}],
            "clean",
            "3 values of 'x' in a row are missing from 2026-01-02 06:00:00",
        ),
        ("hole", [], "columns", "3 of 100 values of 'x' are missing"),
        ("swap", [{"do": "fill", "columns": ["z"]}], "clean", "fill: there is no column 'z'"),
        ("swap", [{"do": "outliers", "columns": ["t"]}], "clean", "outliers: there is no column 't'"),
        ("far", [{"do": "resample", "every": "1s"}], "clean", "rows of 1s each"),
    ],
)
def test_what_no_step_allows_is_refused(
    make_bench: Any, tmp_path: Path, change: str, steps: list[dict[str, Any]], field: str, says: str
) -> None:
    rows = hours()
    if change == "swap":
        rows = {"2026-01-01 01:00": "1", **rows}
        rows = {key: rows[key] for key in ["2026-01-01 01:00", *[k for k in hours() if k != "2026-01-01 01:00"]]}
    elif change == "gap":
        del rows["2026-01-02 06:00"], rows["2026-01-02 07:00"]
    elif change == "hole":
        rows |= dict.fromkeys(("2026-01-02 06:00", "2026-01-02 07:00", "2026-01-02 08:00"), "")
    else:
        rows["2029-01-01 00:00"] = "7"
    with pytest.raises(InvalidInput, match=says) as caught:
        prepare(make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=steps))
    assert caught.value.field == field


def test_what_a_step_allows_passes(make_bench: Any, tmp_path: Path) -> None:
    rows = hours()
    del rows["2026-01-02 06:00"]
    steps = [{"do": "order", "out_of_order": 1, "irregular": 0.02}]
    about, _, values = made(make_bench(table(tmp_path / "a.csv", rows), **SPEC, clean=steps))
    assert len(values) == 99
    assert about["time"]["irregular"] == 1
