"""The rows of CSV and JSON lines: what each holds, and that a bad one costs no other."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from sextant_data_prep.readers import batch, blocks, csv_blocks, json_blocks
from sextant_data_prep.readers.batch import ROW, Reader
from sextant_data_prep.readers.lines import NO_CSV
from sextant_shared.errors import InvalidInput

Read = tuple[list[dict[str, Any]], list[tuple[int, str]]]


def read(reader: Reader) -> Read:
    """All rows of a source, each with its line number at its end, and what was left out."""
    batches = list(reader())
    frame = pl.concat([found.frame for found in batches], how="diagonal")
    return frame.select(pl.exclude(ROW), ROW).to_dicts(), [pair for found in batches for pair in found.bad]


def csv(directory: Path, content: str | bytes) -> Read:
    """The rows of a CSV file with this content."""
    path = directory / "data.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(partial(csv_blocks.read, path))


def json_lines(directory: Path, content: str | bytes) -> Read:
    """The rows of a file of JSON lines with this content."""
    path = directory / "data.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read(partial(json_blocks.read, path))


def test_a_line_break_within_quotes_is_part_of_the_value(tmp_path: Path) -> None:
    good, bad = csv(tmp_path, 't,y\n"hi\n\nthere,you\r\nbye",a\nx,b\n')
    assert good == [{"t": "hi\n\nthere,you\r\nbye", "y": "a", ROW: 2}, {"t": "x", "y": "b", ROW: 6}]
    assert bad == []


@pytest.mark.parametrize("row", ['2,"a', '2,a"', '"2"x,a', '5 2",c', '"2" ,a'])
def test_a_row_whose_quotes_are_wrong_is_left_out_alone(tmp_path: Path, row: str) -> None:
    good, bad = csv(tmp_path, f'x,y\n1,a\n{row}\n3,b\n"4",c\n')
    assert [r[ROW] for r in good] == [2, 4, 5]
    assert bad == [(3, NO_CSV)]


def test_two_stray_quotes_do_not_take_what_stands_between_them(tmp_path: Path) -> None:
    good, bad = csv(tmp_path, 'x,y\n1,"a\n2,b\n3,c\n"4"d\n5",e\n6,f\n')
    assert [r[ROW] for r in good] == [3, 4, 7]
    assert [number for number, _ in bad] == [2, 5, 6]


def test_a_record_over_several_lines_is_left_out_as_one(tmp_path: Path) -> None:
    good, bad = csv(tmp_path, b'x,y\n"1\n,2",a,b\n"3\n\xff,4",c\n"5\n\x00",d\n6,e\n')
    assert good == [{"x": "6", "y": "e", ROW: 8}]
    assert bad == [(2, "does not have 2 columns"), (4, "is not UTF-8"), (6, "holds NUL")]


def test_many_stray_quotes_are_read_in_one_go(tmp_path: Path) -> None:
    # To look from each of them to the end of the file would take longer than a test may.
    good, bad = csv(tmp_path, "x,y\n" + '1,"a\n2,b\n' * 50_000)
    assert len(good) == len(bad) == 50_000


def test_a_value_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    good, bad = csv(tmp_path, f"x,y\n{'1' * 131_073},a\n2,b\n")
    assert ([r[ROW] for r in good], bad) == ([3], [(2, NO_CSV)])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_each_kind_of_line_end_is_one(tmp_path: Path, end: str) -> None:
    good, bad = csv(tmp_path, end.join(["x,y", "1,a", "2,b", ""]))
    assert good == [{"x": "1", "y": "a", ROW: 2}, {"x": "2", "y": "b", ROW: 3}]
    assert bad == []


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("größe,y".encode("latin-1"), "UTF-8"),
        ("x,y\n".encode("utf-16"), "UTF-8"),
        (b"x\0,y", "NUL"),
        (b'"x,y', "no CSV"),
        (b'"x"x,y', "no CSV"),
        (b"x,y,x", "2 columns are called 'x'"),
    ],
)
@pytest.mark.parametrize("before", [b"", b"\n"], ids=["first line", "second line"])
def test_a_header_that_is_none_is_what_the_error_is_about(
    tmp_path: Path, before: bytes, header: bytes, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        csv(tmp_path, before + header + b"\n1,a\n2,b\n")
    assert caught.value.field == "source"
    assert caught.value.accepted


def test_columns_without_a_name_are_called_by_their_place(tmp_path: Path) -> None:
    good, _ = csv(tmp_path, ",x,,\n0,1,,\n")
    assert good == [{"column_1": "0", "x": "1", "column_3": None, "column_4": None, ROW: 2}]


def test_a_column_may_have_any_name_that_can_be_stored(tmp_path: Path) -> None:
    good, _ = json_lines(tmp_path, '{"__row__": 7, "\\ud83d\\ude00": "\\ud83d\\ude00"}\n')
    assert good == [{"__row__": "7", "😀": "😀", ROW: 1}]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"x": "\xff"}', "is not UTF-8"),
        (b"\xff", "is not UTF-8"),
        (b'{"\\udc00": 1}', "is not UTF-8"),
        (b'{"x\\u0000": 1}', "holds NUL"),
        (b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is no JSON"),
        (b'{"x": ' + b"9" * 5000 + b"}", "is no JSON"),
    ],
)
def test_a_json_line_that_cannot_be_taken_is_left_out_with_the_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    good, bad = json_lines(tmp_path, b'{"x": 1}\n' + line + b'\n{"x": 3}\n')
    assert good == [{"x": "1", ROW: 1}, {"x": "3", ROW: 3}]
    assert bad == [(2, reason)]


def test_values_that_are_null_in_all_rows_are_still_texts(tmp_path: Path) -> None:
    good, _ = json_lines(tmp_path, '{"x": null, "y": ""}\n{"z": true}\n')
    assert good == [{"x": None, "y": None, "z": None, ROW: 1}, {"x": None, "y": None, "z": "true", ROW: 2}]


def test_columns_that_only_later_rows_have_are_null_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK", 10)
    good, _ = json_lines(tmp_path, '{"x": 1}\n{"x": 2}\n{"z": 3}\n')
    assert [(row["x"], row["z"]) for row in good] == [("1", None), ("2", None), (None, "3")]


def test_exactly_the_accepted_number_of_columns_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_COLUMNS", 2)
    assert len(csv(tmp_path, "x,y\n1,a\n")[0]) == 1
    assert len(json_lines(tmp_path, '{"x": 1, "y": "a"}\n')[0]) == 1
    with pytest.raises(InvalidInput, match="3 columns; at most 2"):
        json_lines(tmp_path, '{"x": 1, "y": "a"}\n{"z": 1}\n')
