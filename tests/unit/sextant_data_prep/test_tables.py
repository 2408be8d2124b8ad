"""CSV and JSON lines: columns typed, rows that do not fit put into quarantine with their number and reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from sextant_data_prep import encoding, rows, sources
from sextant_data_prep.domain import columns
from sextant_data_prep.learning import Training
from sextant_data_prep.ledger import BAD
from sextant_data_prep.readers import batch
from sextant_data_prep.readers.batch import ROW
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput


@dataclass
class Bad:
    """The rows that were set aside, and how many for which reason."""

    rows: list[tuple[int, str]]
    reasons: dict[str, int]


@dataclass
class Samples:
    """What the passes over a file make of it, all in the training split."""

    features: list[str]
    columns: dict[str, list[Any]]
    labels: list[str]
    ids: list[int]
    quarantine: Bad
    total: int


def read(path: Path, task: str, target: str | None, text: str | None = None, **spec: Any) -> Samples:
    """The samples of a file."""
    given = {"source": "upload://u", "task": task, "target": target, "text": text, "max_bad_share": 1.0, **spec}
    order = PrepareSpec.model_validate(given)
    cleaned = rows.clean(order, sources.of(path, task), path.parent, path.parent / "scratch", lambda *_: None)
    ledger = cleaned.ledger
    fates = np.zeros(cleaned.staging.rows, np.uint8)
    encoded = {} if text else encoding.features(Training(cleaned, fates))
    made = {name: one.made.alias(name) for name, one in encoded.items()} or {"text": pl.col(text or "").alias("text")}
    staged = pl.concat([part for _, part in cleaned.staging.parts()], how="diagonal")
    frame = staged.select(list(made.values()))
    log = path.parent / BAD
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    bad = Bad(sorted((line["row"], line["reason"]) for line in lines), dict(ledger.reasons))
    classes, places = cleaned.labels.classes()
    labels = [classes[places[code]] for code in staged["\0label"]]
    return Samples(list(made), frame.to_dict(as_series=False), labels, staged[ROW].to_list(), bad, ledger.read)


def csv(directory: Path, content: str | bytes, target: str = "y", **spec: Any) -> Samples:
    """The samples of a CSV file with this content."""
    path = directory / "data.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(path, "tabular", target, **spec)


def json_lines(directory: Path, *lines: str) -> Samples:
    """The samples of a file of JSON lines."""
    path = directory / "data.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return read(path, "tabular", "y")


def texts(directory: Path, content: str, **spec: Any) -> Samples:
    """The samples of a CSV file of texts."""
    path = directory / "data.csv"
    path.write_text(content)
    return read(path, "text-classification", "y", "t", **spec)


def column(samples: Samples, name: str) -> list[float]:
    """A column's values."""
    return [float(value) for value in samples.columns[name]]


def test_columns_of_numbers_are_float32_and_rows_keep_their_line_numbers(tmp_path: Path) -> None:
    samples = csv(tmp_path, "x,z,y\n1, 2.5 ,a\n-3,4e2,b\n")
    assert samples.features == ["x", "z"]
    assert column(samples, "x") == [1.0, -3.0]
    assert column(samples, "z") == [2.5, 400.0]
    assert samples.labels == ["a", "b"]
    assert samples.ids == [2, 3]
    assert samples.quarantine.rows == []


def test_a_column_of_words_becomes_one_column_a_category_and_missing_is_one_of_them(tmp_path: Path) -> None:
    samples = csv(tmp_path, "colour,y\nred,a\n,b\nblue,a\nred,b\n")
    assert samples.features == ["colour=", "colour=blue", "colour=red"]
    assert column(samples, "colour=red") == [1.0, 0.0, 0.0, 1.0]
    assert column(samples, "colour=") == [0.0, 1.0, 0.0, 0.0]


def test_a_row_with_too_few_or_too_many_columns_is_left_out(tmp_path: Path) -> None:
    samples = csv(tmp_path, "x,y\n1,a\n2\n3,b,c\n4,b\n")
    assert samples.quarantine.rows == [(3, "does not have 2 columns"), (4, "does not have 2 columns")]
    assert samples.ids == [2, 5]
    assert samples.total == 4


def test_a_value_that_is_no_finite_number_among_numbers_is_left_out(tmp_path: Path) -> None:
    bad = {3: "x", 5: "", 7: "nan", 9: "1e39"}  # 1e39 is over the largest float32
    lines = ["x,y", *(f"{bad.get(number, number)},{'ab'[number % 2]}" for number in range(2, 60))]
    samples = csv(tmp_path, "\n".join(lines))
    assert samples.quarantine.rows == [(number, "x is no finite number") for number in bad]
    assert samples.quarantine.reasons == {"x is no finite number": 4}
    assert set(samples.ids) == set(range(2, 60)) - set(bad)


def test_a_row_without_a_label_is_left_out(tmp_path: Path) -> None:
    samples = csv(tmp_path, 'x,y\n1,\n2,""\n3,b\n4,a\n')
    assert samples.quarantine.rows == [(2, "the label is missing"), (3, "the label is missing")]


def test_a_row_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    samples = csv(tmp_path, b"x,y\n1,a\n2,\xff\xfe\n3,b\n")
    assert samples.quarantine.rows == [(3, "is not UTF-8")]
    assert samples.labels == ["a", "b"]


def test_commas_within_quotes_do_not_split(tmp_path: Path) -> None:
    samples = csv(tmp_path, 'x,y\n1,"a,b"\n2,"say ""hi"""\n')
    assert samples.labels == ["a,b", 'say "hi"']


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_do_no_harm(tmp_path: Path) -> None:
    samples = csv(tmp_path, b"\xef\xbb\xbfx,y\r\n\r\n1,a\r\n2,b\r\n")
    assert samples.features == ["x"]
    assert samples.labels == ["a", "b"]
    assert samples.ids == [3, 4]


@pytest.mark.parametrize("row", ['2,"a', '"2"x,a', '5 2",c', '"2\n5",a'])
def test_a_stray_quote_costs_no_more_than_its_own_lines(tmp_path: Path, row: str) -> None:
    samples = csv(tmp_path, f"x,y\n1,a\n{row}\n3,b\n")
    own = range(3, 4 + row.count("\n"))
    assert set(samples.ids) - set(own) == {2, own.stop}
    assert {number for number, _ in samples.quarantine.rows} <= set(own)


def test_a_comma_within_a_quoted_column_name_does_not_let_a_ragged_row_in(tmp_path: Path) -> None:
    samples = csv(tmp_path, '"a,b",y\n1,a\n2,b\n1,2,3\n')
    assert samples.quarantine.rows == [(4, "does not have 2 columns")]


def test_a_label_with_nul_is_left_out(tmp_path: Path) -> None:
    samples = csv(tmp_path, b"x,y\n1,a\x00\n2,b\n3,a\n")
    assert [row for row, _ in samples.quarantine.rows] == [2]
    assert samples.labels == ["b", "a"]


def test_a_column_name_with_nul_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        csv(tmp_path, b"x\x00,y\n1,a\n2,b\n")
    assert caught.value.field == "source"


def test_a_number_with_nul_is_left_out(tmp_path: Path) -> None:
    samples = csv(tmp_path, "x,y\n" + "1\0,a\n" + "2,b\n3,a\n" * 6)
    assert [row for row, _ in samples.quarantine.rows] == [2]


@pytest.mark.parametrize(
    ("field", "target", "text"), [("target", "label", "x"), ("text", "y", "label")], ids=["target", "text"]
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(
    tmp_path: Path, field: str, target: str, text: str
) -> None:
    (tmp_path / "data.csv").write_text("x,y\n1,a\n")
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path / "data.csv", "text-classification", target, text)
    assert caught.value.field == field
    assert "'label'" in caught.value.message
    assert caught.value.accepted == "x, y"


def test_a_target_that_is_not_named_at_all_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x,y\n1,a\n")
    with pytest.raises(InvalidInput) as caught:
        read(tmp_path / "data.csv", "tabular", None, None)
    assert (caught.value.field, caught.value.accepted) == ("target", "x, y")


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        csv(tmp_path, content)


@pytest.mark.parametrize("content", ["x,y\n", "x,y\n1,\n2,\n"])
def test_a_table_without_a_usable_row_is_said_to_have_none(tmp_path: Path, content: str) -> None:
    with pytest.raises(InvalidInput, match="row"):
        csv(tmp_path, content)


def test_a_header_that_is_not_utf8_is_what_the_error_is_about(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="UTF-8"):
        csv(tmp_path, "größe,y\n1,a\n2,b\n".encode("latin-1"))


def test_a_table_of_nothing_but_the_target_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no column to learn from"):
        csv(tmp_path, "y,empty\na,\nb,\n")


@pytest.mark.parametrize(
    ("content", "features"),
    [
        ("id,label,y\n7,8,a\n9,8,b\n", ["id_", "label_"]),
        ("label,label_,y\n7,8,a\n9,8,b\n", ["label_", "label__"]),
        ("c,c=d,y\nd=e,e,a\nz,f,b\n", ["c=d=e", "c=z", "c=d=e_", "c=d=f"]),
    ],
    ids=["of the files", "twice over", "of a category"],
)
def test_a_name_that_is_taken_gets_an_underscore_and_no_feature_is_lost(
    tmp_path: Path, content: str, features: list[str]
) -> None:
    samples = csv(tmp_path, content)
    assert samples.features == features
    assert set(samples.columns) == set(features)


def test_labels_that_are_all_null_are_missing_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"2 read, 2 bad \(the label is missing: 2\)"):
        json_lines(tmp_path, '{"x": 1, "y": null}', '{"x": 2, "y": ""}')


def test_texts_that_are_all_null_are_empty(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_text('{"t": null, "y": "a"}\n{"t": null, "y": "b"}\n')
    with pytest.raises(InvalidInput, match=r"2 read, 2 bad \(the text is empty: 2\)"):
        read(tmp_path / "data.jsonl", "text-classification", "y", "t")


def test_a_column_of_too_many_categories_is_named(tmp_path: Path) -> None:
    rows = "".join(f"word{row},{'ab'[row % 2]}\n" for row in range(columns.MAX_CATEGORIES + 1))
    with pytest.raises(InvalidInput, match="'name' has over 64 categories"):
        csv(tmp_path, "name,y\n" + rows)


def test_too_many_columns_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_COLUMNS", 2)
    with pytest.raises(InvalidInput, match="3 columns"):
        csv(tmp_path, "x,z,y\n1,2,a\n")
    with pytest.raises(InvalidInput, match="columns"):
        json_lines(tmp_path, '{"x": 1, "z": 2, "y": "a"}')


def test_json_lines_give_the_same_samples_as_csv(tmp_path: Path) -> None:
    rows = [{"x": 1.5, "c": "red", "y": "a"}, {"x": -2, "c": None, "y": "b"}]
    from_json = json_lines(tmp_path, *map(json.dumps, rows))
    from_csv = csv(tmp_path, "x,c,y\n1.5,red,a\n-2,,b\n")
    assert from_json.features == from_csv.features
    for feature in from_csv.features:
        assert column(from_json, feature) == column(from_csv, feature)
    assert from_json.labels == from_csv.labels


def test_a_line_that_is_no_flat_json_object_is_left_out(tmp_path: Path) -> None:
    good = '{"x": 1, "y": "a"}', '{"x": 2, "y": "b"}'
    samples = json_lines(tmp_path, good[0], "{nope", "[1, 2]", '{"x": {"z": 1}, "y": "a"}', "", good[1])
    assert samples.quarantine.rows == [
        (2, "is no JSON"),
        (3, "is no flat JSON object"),
        (4, "is no flat JSON object"),
    ]
    assert samples.ids == [1, 6]


def test_a_key_that_some_lines_lack_is_a_missing_value_there(tmp_path: Path) -> None:
    samples = json_lines(tmp_path, '{"c": "red", "y": "a"}', '{"x": 1, "y": "b"}', '{"y": null, "x": 2}')
    assert column(samples, "c=red") == [1.0, 0.0]
    assert samples.quarantine.rows == [(3, "the label is missing")]


def test_a_file_without_a_json_object_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        json_lines(tmp_path, "[1]", "nope")
    assert caught.value.accepted == "one JSON object a line"


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("[" * 100_000, id="nested too deep"),
        pytest.param('{"x": 1, "y": "\\ud800"}', id="half a surrogate pair"),
        pytest.param('{"x": 1, "y": "a\\u0000"}', id="NUL"),
    ],
)
def test_a_line_that_json_allows_and_a_database_does_not_is_left_out(tmp_path: Path, line: str) -> None:
    samples = json_lines(tmp_path, line, '{"x": 2, "y": "a"}', '{"x": 3, "y": "b"}')
    assert [row for row, _ in samples.quarantine.rows] == [1]
    assert samples.labels == ["a", "b"]


def test_texts_are_stripped_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    samples = texts(tmp_path, "t,y\n hi ,a\n,b\n   ,b\nthere,b\n")
    assert samples.columns["text"] == ["hi", "there"]
    assert samples.quarantine.rows == [(3, "the text is empty"), (4, "the text is empty")]
