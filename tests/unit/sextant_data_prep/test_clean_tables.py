"""Declared steps on tables: types, missing values, categories, bounds, doubles, given splits and leaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.ledger import REMOVED
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]


@pytest.fixture
def make(make_bench: MakeBench, tmp_path: Path) -> Callable[..., Workbench]:
    """Prepares a CSV file with these lines; the workbench with what was made."""

    def run(lines: list[str], clean: list[dict[str, Any]] | None = None, **spec: Any) -> Workbench:
        path = tmp_path / "data.csv"
        path.write_text("\n".join(lines) + "\n")
        bench = make_bench(path, task="tabular", target="y", clean=clean or [], **spec)
        prepare(bench)
        return bench

    return run


def described(bench: Workbench) -> dict[str, Any]:
    """The description of the dataset version."""
    found: dict[str, Any] = json.loads((bench.out / "dataset.json").read_text())
    return found


def rows(bench: Workbench, *splits: str) -> list[dict[str, Any]]:
    """The rows of some splits, or of all, in the order of the source."""
    found = []
    for split in splits or ("train", "val", "test"):
        for name in described(bench)["splits"][split]["files"]:
            found += pa.ipc.open_file(pa.memory_map(str(bench.out / name))).read_all().to_pylist()
    return sorted(found, key=lambda row: row["id"])


def removed(bench: Workbench) -> list[dict[str, Any]]:
    """The rows that steps left out."""
    return [json.loads(line) for line in (bench.out / REMOVED).read_text().splitlines()]


def table(values: list[str], name: str = "x") -> list[str]:
    """Lines with one column of these values, a number that is different in each row, and a label."""
    return [f"{name},n,y", *(f"{value},{number},{'ab'[number % 2]}" for number, value in enumerate(values))]


@pytest.mark.parametrize("policy", ["mean", "median", "most-frequent"])
def test_a_missing_number_is_filled_from_the_training_split_alone(make: Callable[..., Workbench], policy: str) -> None:
    values = ["" if number % 5 == 0 else str(number % 7 * number) for number in range(200)]
    bench = make(table(values), [{"do": "missing", "columns": ["x"], "policy": policy, "flag": True}])
    given = np.array([row["x"] for row in rows(bench, "train") if not row["x=missing"]], np.float64)
    expected = {
        "mean": given.mean(),
        "median": np.quantile(given, 0.5, method="lower"),
        "most-frequent": max(set(given), key=lambda value: (list(given).count(value), -value)),
    }[policy]
    filled = {row["x"] for row in rows(bench) if row["x=missing"]}
    assert list(filled) == [pytest.approx(float(expected), rel=1e-6)]  # Float32 has seven digits
    assert sum(row["x=missing"] for row in rows(bench)) == 40


def test_a_constant_stands_for_missing_numbers_and_words(make: Callable[..., Workbench]) -> None:
    lines = ["x,c,y", *(f"{'' if n % 4 == 0 else n},{'' if n % 3 == 0 else 'red'},{'ab'[n % 2]}" for n in range(60))]
    steps = [
        {"do": "missing", "columns": ["x"], "policy": "constant", "value": -1.0},
        {"do": "missing", "columns": ["c"], "policy": "constant", "value": "none"},
    ]
    bench = make(lines, steps)
    assert {row["x"] for row in rows(bench) if (row["id"] - 2) % 4 == 0} == {-1.0}
    assert {(row["c=none"], row["c=red"]) for row in rows(bench) if (row["id"] - 2) % 3 == 0} == {(1.0, 0.0)}


def test_rows_with_missing_values_are_dropped_as_a_step_and_not_as_bad_rows(make: Callable[..., Workbench]) -> None:
    values = ["?" if number % 4 == 0 else str(number) for number in range(80)]
    bench = make(table(values), [{"do": "missing", "policy": "drop", "also": ["?"]}], max_bad_share=0.0)
    assert described(bench)["removed"] == {"missing": 20}
    assert removed(bench)[0] == {"row": 2, "reason": "x is missing", "step": "missing"}
    assert len(rows(bench)) == 60


def test_declared_types_count_and_ignored_columns_are_gone(make: Callable[..., Workbench]) -> None:
    lines = ["zip,note,n,y", *(f"{10000 + n % 3},text {n},{n},{'ab'[n % 2]}" for n in range(60))]
    bench = make(lines, [{"do": "types", "columns": {"zip": "category", "note": "ignore"}}])
    assert [f["name"] for f in described(bench)["features"]] == ["zip=10000", "zip=10001", "zip=10002", "n"]


def test_a_column_declared_as_numbers_sets_words_aside(make: Callable[..., Workbench]) -> None:
    values = [str(number) if number % 4 < 2 else "word" for number in range(60)]
    bench = make(table(values), [{"do": "types", "columns": {"x": "number"}}], max_bad_share=0.5)
    assert described(bench)["quarantined"] == {"rows": 30, "reasons": {"x is no finite number": 30}}


def test_rare_categories_go_together(make: Callable[..., Workbench]) -> None:
    values = [["often", "often", "again", f"once{number}"][number % 4] for number in range(400)]
    bench = make(table(values, "c"), [{"do": "categories", "max": 3}])
    assert [f["name"] for f in described(bench)["features"]] == ["c=again", "c=often", "c=(other)", "n"]
    assert sum(row["c=(other)"] for row in rows(bench)) == 100
    assert {row["c=again"] + row["c=often"] + row["c=(other)"] for row in rows(bench)} == {1.0}


def test_more_categories_than_accepted_are_refused_where_that_is_asked_for(make: Callable[..., Workbench]) -> None:
    with pytest.raises(InvalidInput, match="'c' has over 3 categories"):
        make(
            table([f"word{number % 4}" for number in range(60)], "c"),
            [{"do": "categories", "max": 3, "rare": "refuse"}],
        )


def test_columns_may_have_names_that_the_work_itself_uses(make: Callable[..., Workbench]) -> None:
    lines = ["count,len,reason,row,y", *(f"{n},{n % 3},{'rs'[n % 2]},{'pq'[n % 2]},{'ab'[n % 2]}" for n in range(60))]
    names = [f["name"] for f in described(make(lines, [{"do": "leakage"}]))["features"]]
    assert names == ["count", "len", "reason=r", "reason=s", "row=p", "row=q"]


def test_values_out_of_bounds_are_left_out_with_the_reason(make: Callable[..., Workbench]) -> None:
    bench = make(table([str(number) for number in range(60)]), [{"do": "bounds", "column": "x", "min": 5, "max": 50}])
    assert described(bench)["removed"] == {"bounds": 14}
    assert {line["reason"] for line in removed(bench)} == {"x is out of bounds"}
    assert {row["x"] for row in rows(bench)} == {float(number) for number in range(5, 51)}


def test_a_step_that_names_no_column_of_the_table_is_refused(make: Callable[..., Workbench]) -> None:
    with pytest.raises(InvalidInput, match="names the column 'colour'") as caught:
        make(table(["1"] * 9), [{"do": "missing", "columns": ["colour"]}])
    assert (caught.value.field, caught.value.accepted) == ("clean", "x, n")


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"do": "missing", "columns": ["c"], "policy": "mean"}, "'c' is none of numbers"),
        ({"do": "missing", "columns": ["n"], "policy": "constant", "value": "x"}, "'n' is one of numbers"),
        ({"do": "bounds", "column": "c", "min": 1}, "'c' is none of numbers"),
        ({"do": "missing", "columns": ["y"]}, "a step names the column 'y', which is no feature"),
    ],
)
def test_a_step_that_does_not_fit_its_column_is_refused(
    make: Callable[..., Workbench], step: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        make(table(["red", "blue", "red"] * 20, "c"), [step])
    assert caught.value.field == "clean"


def test_of_equal_rows_the_first_stays_and_contradictions_are_told_apart(make: Callable[..., Workbench]) -> None:
    lines = ["x,y", *(f"{n},{'ab'[n % 2]}" for n in range(60)), "5,b", "5.0,a", "6,a"]
    bench = make(lines, [{"do": "deduplicate"}])
    assert described(bench)["removed"] == {"deduplicate": 3}
    assert [(line["row"], line["reason"]) for line in removed(bench)] == [
        (62, "stood there before"),
        (63, "stood there before, with another label"),
        (64, "stood there before"),
    ]
    assert sorted(row["x"] for row in rows(bench)) == list(range(60))


def test_a_column_may_say_the_split_of_each_row(make: Callable[..., Workbench]) -> None:
    names = ["train", "train", "Validation", "test"]
    lines = ["x,part,y", *(f"{n},{names[n % 4]},{'ab'[n // 4 % 2]}" for n in range(80)), "80,none,a"]
    bench = make(lines, split={"column": "part"}, max_bad_share=0.05)
    assert {row["x"] % 4 for row in rows(bench, "val")} == {2.0}
    assert [len(rows(bench, split)) for split in ("train", "val", "test")] == [40, 20, 20]
    assert described(bench)["quarantined"]["reasons"] == {"its split is none of train, val, test": 1}
    assert [f["name"] for f in described(bench)["features"]] == ["x"]


def test_the_same_row_in_two_given_splits_is_a_leak_and_refused(make: Callable[..., Workbench]) -> None:
    parts = ["train", "val", "test"]
    lines = ["x,part,y", *(f"{n},{parts[n % 3]},{'ab'[n % 2]}" for n in range(60)), "7,test,b"]
    with pytest.raises(
        InvalidInput, match="leak: 1 rows stand in two splits, for example source rows 9 and 62"
    ) as caught:
        make(lines, split={"column": "part"})
    assert caught.value.field == "split"
    cleaned = make(lines, [{"do": "deduplicate"}], split={"column": "part"})
    assert len(rows(cleaned)) == 60


def test_the_same_id_in_two_given_splits_is_a_leak_and_refused(make: Callable[..., Workbench]) -> None:
    parts = ["train", "val", "test"]
    lines = ["x,who,part,y", *(f"{n},id{n // 3},{parts[n // 3 % 3]},{'ab'[n % 2]}" for n in range(90)), "90,id1,test,a"]
    with pytest.raises(InvalidInput, match=r"leak: 1 groups of 'who' stand in two splits, .* rows 5 and 92"):
        make(lines, split={"column": "part", "group": "who"})


def test_rows_of_a_group_go_to_one_split_and_the_group_is_no_feature(make: Callable[..., Workbench]) -> None:
    lines = ["x,who,y", *(f"{n},id{n % 50},{'ab'[n % 2]}" for n in range(500))]
    bench = make(lines, split={"group": "who", "val": 0.2, "test": 0.2})
    found = {split: {row["x"] % 50 for row in rows(bench, split)} for split in ("train", "val", "test")}
    assert [len(groups) for groups in found.values()] == [30, 10, 10]
    assert len(set.union(*found.values())) == 50
    assert [f["name"] for f in described(bench)["features"]] == ["x"]


def test_a_label_that_is_nan_is_a_bad_row(make: Callable[..., Workbench]) -> None:
    lines = ["x,y", *(f"{n},{'ab'[n % 2]}" for n in range(60)), "60,NaN", "61,nan"]
    bench = make(lines, max_bad_share=0.1)
    assert described(bench)["quarantined"]["reasons"] == {"the label is NaN": 2}


def test_a_table_of_one_class_is_refused(make: Callable[..., Workbench]) -> None:
    with pytest.raises(InvalidInput, match="the same label 'a'"):
        make(["x,y", *(f"{n},a" for n in range(20))])


def test_columns_that_give_the_target_away_are_named_or_refused(make: Callable[..., Workbench]) -> None:
    lines = ["code,region,n,y"]
    lines += [f"{7 + n % 2},{'north' if n % 2 else 'south' if n % 4 else 'west'},{n},{'ab'[n % 2]}" for n in range(100)]
    bench = make(lines, [{"do": "leakage"}])
    assert described(bench)["leaks"] == [
        {"column": "code", "reason": "is the target under other names"},
        {"column": "region", "reason": "determines the target"},
    ]
    with pytest.raises(InvalidInput, match="2 columns give the target away: 'code' is the target") as caught:
        make(lines, [{"do": "leakage", "action": "refuse"}])
    assert caught.value.field == "clean"


def test_a_column_of_which_each_value_stands_once_gives_nothing_away(make: Callable[..., Workbench]) -> None:
    bench = make(table([str(number % 3) for number in range(90)]), [{"do": "leakage"}])
    assert described(bench)["leaks"] == []


def test_outliers_are_brought_to_limits_that_the_training_split_says(make: Callable[..., Workbench]) -> None:
    values = [str(number % 97 - 40) for number in range(400)]
    values[7], values[70], values[300] = "90000", "-1e30", ""
    steps = [{"do": "outliers", "distance": 1.5}, {"do": "missing", "policy": "mean"}]
    bench = make(table(values), steps)
    plain = make(table(values), [{"do": "missing", "policy": "constant", "value": 0}])
    given = [row["x"] for row in rows(plain, "train") if row["id"] != 302]
    first, third = (float(np.quantile(given, share, method="lower")) for share in (0.25, 0.75))
    low, high = first - 1.5 * (third - first), third + 1.5 * (third - first)
    found = {row["id"]: row["x"] for row in rows(bench)}
    assert (found[9], found[72]) == (high, low)
    assert found[302] == pytest.approx(float(np.clip(given, low, high).mean()), rel=1e-6)  # Float32 has seven digits
    assert described(bench)["outliers"]["x"] == {"low": low, "high": high, "clip": True, "rows": 2}
    kept = {row["id"]: row["x"] for row in rows(plain)}
    assert all(found[row] == kept[row] for row in found if row not in (9, 72, 302))


def test_outliers_may_be_counted_alone_and_are_warned_of(make: Callable[..., Workbench]) -> None:
    values = [*(str(number) for number in range(99)), "5000"]
    bench = make(table(values), [{"do": "outliers", "columns": ["x"], "action": "flag"}])
    assert rows(bench)[-1]["x"] == 5000
    assert described(bench)["outliers"]["x"]["rows"] == 1
    assert "x: 1 values lie far outside the others" in (bench.out / "report.html").read_text()


def test_a_column_of_mostly_one_value_has_no_outliers(make: Callable[..., Workbench]) -> None:
    bench = make(table([str(number % 5 // 4) for number in range(100)]), [{"do": "outliers"}])
    assert sum(row["x"] for row in rows(bench)) == 20
    assert list(described(bench)["outliers"]) == ["n"]


def test_outliers_of_words_are_refused(make: Callable[..., Workbench]) -> None:
    with pytest.raises(InvalidInput, match="outliers: column 'c' is none of numbers"):
        make(table([f"w{number % 3}" for number in range(60)], "c"), [{"do": "outliers", "columns": ["c"]}])
