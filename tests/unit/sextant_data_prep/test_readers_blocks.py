"""Blocks: that a file read at once, in blocks of any size, gives what it gives line by line."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sextant_data_prep.readers import blocks, csv_blocks, json_blocks
from sextant_data_prep.readers.batch import ROW, Reader
from sextant_shared.errors import InvalidInput

PIECES = [b"a", b"1", b",", b",", b'"', b'"', b"\n", b"\n", b"\r\n", b"\r", b" ", "ö".encode(), b"\xff", b"\0"]
VALUES = [b"1", b"1.0", b'"x"', b'""', b"null", b"true", b"[1]", b"{}", b"2.5", b"nope", b'"\\ud800"', b'"\xff"']
PAIRS = st.tuples(st.sampled_from([b"a", b"b"]), st.sampled_from(VALUES))


def first(pair: tuple[bytes, bytes]) -> bytes:
    """The key of a pair: RFC 8259 leaves open what becomes of one that stands twice in an object."""
    return pair[0]


def all_of(reader: Reader, size: int) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """The rows and the bad rows of a source that is read in blocks of `size` bytes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "BLOCK", size)
        batches = list(reader())
    frame = pl.concat([found.frame for found in batches], how="diagonal")
    rows = [{name: value for name, value in row.items() if value is not None} for row in frame.to_dicts()]
    return rows, [pair for found in batches for pair in found.bad]


def of_file(read: Any, content: bytes, size: int) -> Any:
    """As `all_of`; or the error's message."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "data"
        path.write_bytes(content)
        try:
            return all_of(partial(read, path), size)
        except InvalidInput as error:
            return error.message


def line_by_line(patch: pytest.MonkeyPatch) -> None:
    """Switch the fast ways off."""
    patch.setattr(csv_blocks._Layout, "of", classmethod(lambda *_: None))
    patch.setattr(json_blocks, "_fast", lambda *_: None)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=40), st.integers(14, 40))
def test_csv_in_blocks_is_csv_line_by_line(pieces: list[bytes], size: int) -> None:
    content = b"x,y\n" + b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "MAX_LINE", 1 << 30)
        in_blocks, at_once = (of_file(csv_blocks.read, content, block) for block in (size, 1 << 20))
        line_by_line(patch)
        slow = of_file(csv_blocks.read, content, 1 << 20)
    assert at_once == slow
    # A quote that is never closed is looked for in four blocks and no further.
    if content.count(b'"') == 0:
        assert in_blocks == slow


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([b"", b" ", b"[]", b"{", b"\r"]),
            st.lists(PAIRS, max_size=2, unique_by=first).map(
                lambda pairs: b"{" + b", ".join(b'"%s": %s' % pair for pair in pairs) + b"}"
            ),
        ),
        max_size=8,
    ),
    st.integers(8, 64),
)
def test_json_in_blocks_is_json_line_by_line(lines: list[bytes], size: int) -> None:
    content = b"\n".join(lines)
    in_blocks, at_once = (of_file(json_blocks.read, content, block) for block in (size, 1 << 20))
    with pytest.MonkeyPatch.context() as patch:
        line_by_line(patch)
        slow = of_file(json_blocks.read, content, 1 << 20)
    assert at_once == slow
    assert in_blocks == slow


def test_numbers_are_read_as_such_and_what_is_none_is_nan(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text('x,y\n1, 2 \n,3\nword,4\n" 5 ",\n')
    frame = pl.concat([found.frame for found in csv_blocks.read(path, ["x"])])
    assert frame["x"].to_list() == [1.0, None, pytest.approx(float("nan"), nan_ok=True), 5.0]
    assert frame["y"].to_list() == [" 2 ", "3", "4", None]
    assert frame[ROW].to_list() == [2, 3, 4, 5]


def test_a_line_that_never_ends_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    with path.open("wb") as out:
        out.write(b"x,y\n")
        out.truncate(blocks.MAX_LINE + (32 << 20))
    with pytest.raises(InvalidInput, match="line 2 is longer than"):
        list(csv_blocks.read(path))


def test_a_header_of_ten_million_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(b",".join(b"c%d" % number for number in range(10_000_000)) + b"\n1,2\n")
    with pytest.raises(InvalidInput, match="over 1000000 columns") as caught:
        list(csv_blocks.read(path))
    assert (caught.value.field, caught.value.accepted) == ("source", "10000 columns")
