"""Parquet and plain text: what real files give, and what damaged ones do not."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sextant_data_prep import sources
from sextant_data_prep.readers import columnar, parquet, plain, reader
from sextant_data_prep.readers.batch import ROW, Batch, Reader
from sextant_shared.errors import InvalidInput


def whole(read: Reader, **asked: Any) -> Batch:
    """All batches as one."""
    found = list(read(**asked))
    frame = pl.concat([batch.frame for batch in found], how="diagonal")
    return Batch(frame, [pair for batch in found for pair in batch.bad])


def parquet_file(directory: Path, table: pa.Table, **options: Any) -> Path:
    """A file of the table."""
    path = directory / "data.parquet"
    pq.write_table(table, path, **options)
    return path


def test_values_of_every_flat_type_become_texts_or_numbers(tmp_path: Path) -> None:
    table = pa.table(
        {
            "whole": [1, None],
            "real": [1.0, 2.5],
            "price": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
            "yes": [True, False],
            "day": [dt.date(2024, 2, 29), None],
            "word": pa.array(["a", ""]).dictionary_encode(),
            "code": pa.array(["7", "x"]).dictionary_encode(),
        }
    )
    numeric = ["real", "price", "yes", "code"]
    read = whole(partial(parquet.read, parquet_file(tmp_path, table)), numeric=numeric).frame
    first, second = read.select(pl.exclude("yes", "code")).to_dicts()
    assert first == {"whole": "1", "real": 1.0, "price": 1.5, "day": "2024-02-29", "word": "a", ROW: 1}
    assert second == {"whole": None, "real": 2.5, "price": None, "day": None, "word": None, ROW: 2}
    assert read["yes"].is_nan().all()
    assert read["code"].is_nan().to_list() == [False, True]


def test_rows_are_numbered_through_all_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columnar, "ROWS", 7)
    path = parquet_file(tmp_path, pa.table({"x": list(range(50))}), row_group_size=20)
    read = whole(partial(parquet.read, path), numeric=["x"]).frame
    assert read["x"].to_list() == list(range(50))
    assert read[ROW].to_list() == list(range(1, 51))


def test_a_row_with_nul_is_left_out(tmp_path: Path) -> None:
    read = whole(partial(parquet.read, parquet_file(tmp_path, pa.table({"x": ["a", "b\0", None]}))))
    assert read.bad == [(2, "holds NUL")]
    assert read.frame[ROW].to_list() == [1, 3]


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([[1]]), "list"),
        (pa.array([{"a": 1}]), "struct"),
        (pa.array([b"x"]), "binary"),
        (pa.array([dt.timedelta(1)]), "duration"),
    ],
)
def test_a_column_that_is_not_flat_is_named_with_its_type(tmp_path: Path, column: pa.Array, kind: str) -> None:
    path = parquet_file(tmp_path, pa.table({"odd": column}))
    with pytest.raises(InvalidInput, match=f"'odd' is of type {kind}") as caught:
        list(parquet.read(path))
    assert caught.value.field == "source"
    assert "numbers" in (caught.value.accepted or "")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = parquet_file(tmp_path, pa.table({"x": list(range(1000))}))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InvalidInput, match="Parquet file cannot be read"):
        list(parquet.read(path))


def test_a_damaged_page_is_refused(tmp_path: Path) -> None:
    words = [f"word {number}" for number in range(5000)]
    path = parquet_file(
        tmp_path, pa.table({"x": words}), use_dictionary=False, compression="none", write_page_checksum=True
    )
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(InvalidInput, match="Parquet file cannot be read"):
        list(parquet.read(path))


def test_a_row_group_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet_file(tmp_path, pa.table({"x": ["0" * 1000] * 1000}), use_dictionary=False, compression="zstd")
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(parquet, "MAX_GROUP", 500_000)
    with pytest.raises(InvalidInput, match="unpacks to more than 500000 bytes"):
        list(parquet.read(path))


def test_documents_have_their_folder_as_class_and_bad_ones_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain, "FILES", 2)
    monkeypatch.setattr(plain, "MAX_BYTES", 100)
    for name, content in {
        "a/1.txt": b"\xef\xbb\xbfone\ntwo",
        "a/2.txt": b"caf\xe9",
        "b/3.txt": b"x" * 101,
        "b/4.txt": "größe".encode(),
        "c/5.md": b"no text file",
        "stray.txt": b"no class",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "b" / "link.txt").symlink_to("/etc/hostname")
    read = whole(sources.of(tmp_path, "text-classification").read)
    assert read.frame.select("text", "class").rows() == [("one\ntwo", "a"), ("größe", "b")]
    assert read.bad == [(1, "is not UTF-8"), (2, "is over 100 bytes"), (4, "is in no class folder")]


def test_a_folder_without_texts_and_a_file_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds 0 tables"):
        sources.of(tmp_path, "text-classification")
    with pytest.raises(InvalidInput, match=r"no reader for 'a\.xlsx'") as caught:
        reader(tmp_path / "a.xlsx")
    assert caught.value.accepted == ".csv, .jsonl, .ndjson, .parquet, .arrow"
