"""Every reader on files that were cut off or have wrong bytes in them: an error of ours, or rows that can be stored."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.handlers import work
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Divided, Workbench

MakeBench = Callable[..., Workbench]
ROWS: list[dict[str, Any]] = [{"x": n / 7, "word": "red" if n % 3 else "grün", "y": "ab"[n % 2]} for n in range(200)]
TABLE: dict[str, Any] = {"task": "tabular", "target": "y", "max_bad_share": 0.9}
IMAGES: dict[str, Any] = {"task": "image-classification", "max_bad_share": 0.9}
TEXTS: dict[str, Any] = {"task": "text-classification", "max_bad_share": 0.9}
SERIES: dict[str, Any] = {
    "task": "forecasting",
    "split": {"time": "t"},
    "window": {"input": 4, "horizon": 2},
    "max_bad_share": 0.9,
}


def csv() -> bytes:
    """A table as CSV."""
    return "\n".join(["x,word,y", *(f"{row['x']},{row['word']},{row['y']}" for row in ROWS)]).encode()


def jsonl() -> bytes:
    """The same as JSON lines."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def parquet() -> bytes:
    """The same as Parquet, with checksums."""
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out, row_group_size=50, write_page_checksum=True)
    return out.getvalue()


def arrow(*, stream: bool = False) -> bytes:
    """The same as Arrow, which has no checksums."""
    out, table = io.BytesIO(), pa.Table.from_pylist(ROWS)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    return out.getvalue()


def empty_arrow() -> bytes:
    """A table without rows."""
    out, schema = io.BytesIO(), pa.schema({"x": pa.float64(), "y": pa.string()})
    with pa.ipc.new_file(out, schema):
        pass
    return out.getvalue()


def series() -> bytes:
    """A series as CSV."""
    return "\n".join(["t,v", *(f"2026-01-{1 + n // 24:02d}T{n % 24:02d}:00,{n % 5}" for n in range(200))]).encode()


def files(kind: str) -> dict[str, bytes]:
    """Images or documents of two classes."""
    found, rng = {}, np.random.default_rng(0)
    for number in range(40):
        out = io.BytesIO()
        if kind == "txt":
            out.write(f"text of number {number}".encode())
        else:
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(out, kind)
        found[f"{'ab'[number % 2]}/{number}.{kind}"] = out.getvalue()
    return found


def zipped(content: dict[str, bytes]) -> bytes:
    """Packed as zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return out.getvalue()


def tarred(content: dict[str, bytes]) -> bytes:
    """Packed as tar and gzip."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as packed:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return out.getvalue()


CASES: dict[str, tuple[str, Callable[[], bytes], dict[str, Any]]] = {
    "csv": ("a.csv", csv, TABLE),
    "json-lines": ("a.jsonl", jsonl, TABLE),
    "parquet": ("a.parquet", parquet, TABLE),
    "arrow-file": ("a.arrow", arrow, TABLE),
    "arrow-stream": ("a.arrow", lambda: arrow(stream=True), TABLE),
    "series": ("a.csv", series, SERIES),
    "images-png": ("a.zip", lambda: zipped(files("png")), IMAGES),
    "images-webp": ("a.tar.gz", lambda: tarred(files("webp")), IMAGES),
    "documents": ("a.zip", lambda: zipped(files("txt")), TEXTS),
    "tables-in-zip": ("a.zip", lambda: zipped({"1.csv": csv(), "2.csv": csv()}), TABLE),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("damage", ["cut", "flipped", "zeros", "doubled"])
def test_a_damaged_file_is_refused_or_loses_rows_and_never_more(
    make_bench: MakeBench, tmp_path: Path, case: str, damage: str
) -> None:
    name, write, spec = CASES[case]
    whole, rng = write(), Random(f"{case} {damage}")
    for number in range(2):
        at = rng.randrange(len(whole) // 20, len(whole))
        match damage:
            case "cut":
                content = whole[:at]
            case "flipped":
                content = whole[:at] + bytes([whole[at] ^ (1 << rng.randrange(8))]) + whole[at + 1 :]
            case "zeros":
                content = whole[:at] + bytes(64) + whole[at + 64 :]
            case _:
                content = whole[:at] + whole[at - 40 :]
        path = tmp_path / f"{number}" / name
        path.parent.mkdir()
        path.write_bytes(content)
        bench = make_bench(path, **spec)
        with suppress(InvalidInput):
            assert sum(prepare(bench).outputs["rows"].values()) > 0
            assert (bench.out / "dataset.json").exists()


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_another_encoding_is_named(make_bench: MakeBench, tmp_path: Path, suffix: str, encoding: str) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes((csv() if suffix == "csv" else jsonl()).decode().encode(encoding))
    with pytest.raises(InvalidInput, match=r"not UTF-8|NUL|holds no JSON object|no usable row"):
        prepare(make_bench(path, **TABLE | {"max_bad_share": 0.01}))


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_document_in_another_encoding_is_left_out(make_bench: MakeBench, tmp_path: Path, encoding: str) -> None:
    content = files("txt")
    content["a/0.txt"] = "grüner Text".encode(encoding)
    (tmp_path / "a.zip").write_bytes(zipped(content))
    outputs = prepare(make_bench(tmp_path / "a.zip", **TEXTS)).outputs
    assert outputs["quarantined"]["rows"] == 1


def test_parquet_files_with_columns_of_other_types_go_by_their_values(make_bench: MakeBench, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    pq.write_table(pa.table({"x": range(100), "y": ["a", "b"] * 50}), folder / "1.parquet")
    pq.write_table(pa.table({"x": [str(n) for n in range(100, 200)], "y": ["a", "b"] * 50}), folder / "2.parquet")
    assert sum(prepare(make_bench(folder, **TABLE)).outputs["rows"].values()) == 200
    pq.write_table(pa.table({"x": ["word"] * 100, "y": ["a", "b"] * 50}), folder / "2.parquet")
    about = prepare(make_bench(folder, **TABLE | {"clean": [{"do": "categories"}]})).registers[0].meta
    assert about["features"][-1]["name"] == "x=(other)"


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.csv", lambda: b"x,y\n"),
        ("a.jsonl", lambda: b"\n\n \n"),
        ("a.arrow", empty_arrow),
        ("a.zip", lambda: zipped({})),
        ("a.tar.gz", lambda: tarred({})),
        ("a.zip", lambda: zipped({"1.csv": b"x,y\n", "2.csv": b"x,y\n"})),
    ],
)
def test_an_empty_set_is_refused(make_bench: MakeBench, tmp_path: Path, name: str, write: Callable[[], bytes]) -> None:
    (tmp_path / name).write_bytes(write())
    with pytest.raises(InvalidInput, match=r"no usable row: 0 read|holds no JSON object|holds 0 tables"):
        prepare(make_bench(tmp_path / name, **TABLE))


@pytest.mark.parametrize("case", ["images-png", "documents", "csv", "parquet"])
def test_one_class_only_is_refused(make_bench: MakeBench, tmp_path: Path, case: str) -> None:
    name, _, spec = CASES[case]
    if name == "a.zip":
        kind = "png" if case == "images-png" else "txt"
        same = {f"only/{number}.{kind}": data for number, data in enumerate(files(kind).values())}
        (tmp_path / name).write_bytes(zipped(same))
    elif case == "csv":
        (tmp_path / name).write_bytes(b"x,y\n" + b"".join(b"%d,a\n" % n for n in range(60)))
    else:
        pq.write_table(pa.table({"x": range(60), "y": ["a"] * 60}), tmp_path / name)
    with pytest.raises(InvalidInput, match="all rows have the same label") as caught:
        prepare(make_bench(tmp_path / name, **spec))
    assert caught.value.field == "target"


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "arrow", "parquet"])
def test_targets_that_are_nan_cost_their_rows(make_bench: MakeBench, tmp_path: Path, suffix: str) -> None:
    rows = [{"x": float(n), "y": float("nan") if n % 20 == 0 else float(n % 2)} for n in range(200)]
    path, table = tmp_path / f"a.{suffix}", pa.Table.from_pylist(rows)
    match suffix:
        case "csv":
            path.write_text("\n".join(["x,y", *(f"{row['x']},{row['y']}" for row in rows)]))
        case "jsonl":
            path.write_text("".join(json.dumps(row | {"y": str(row["y"])}) + "\n" for row in rows))
        case "arrow":
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table)
        case _:
            pq.write_table(table, path)
    outputs = prepare(make_bench(path, **TABLE)).outputs
    assert outputs["quarantined"] == {"rows": 10, "reasons": {"the label is NaN": 10}}
    with pytest.raises(InvalidInput, match=r"10 of 200 rows \(5.0%\) are bad; most: the label is NaN: 10"):
        prepare(make_bench(path, **TABLE | {"max_bad_share": 0.01}))


def test_a_header_of_ten_million_columns_is_refused_by_the_whole_job(make_bench: MakeBench, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b",".join([b"c"] * 10_000_000) + b"\n" + b"1,2\n")
    for step in (prepare, work):
        with pytest.raises(InvalidInput, match=r"header (has over|is longer than)") as caught:
            step(make_bench(path, service={"piece_bytes": str(1 << 20)}, **TABLE))
        assert caught.value.field == "source"


def in_pieces(make_bench: MakeBench, path: Path) -> None:
    """Divide a table, and clean each piece."""
    told = {"piece_bytes": str(1 << 20)}
    made = work(make_bench(path, service=told, **TABLE))
    assert isinstance(made, Divided)
    for piece in made.pieces:
        work(make_bench(path, inputs={"piece": piece.model_dump()}, service=told, **TABLE))


def test_a_line_without_end_is_refused_by_the_piece_that_has_it(make_bench: MakeBench, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(csv() * 400 + b"\n" + b"x" * (70 << 20))
    with pytest.raises(InvalidInput, match="is longer than"):
        in_pieces(make_bench, path)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet", "arrow"])
def test_a_large_file_that_is_something_else_is_refused_when_it_is_divided(
    make_bench: MakeBench, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(gzip.compress(Random(0).randbytes(2 << 20)))
    with pytest.raises(InvalidInput) as caught:
        in_pieces(make_bench, path)
    assert caught.value.field in ("source", "target")
