"""Sources that are not what they should be, through the whole of a `prepare` job: an error that says what is wrong."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]
ROWS = [f"{n},{'ab'[n % 2]}" for n in range(60)]
CSV = ("\n".join(["x,y", *ROWS]) + "\n").encode()


def refused(make_bench: MakeBench, path: Path, task: str = "tabular") -> InvalidInput:
    """The error of a job on this upload."""
    with pytest.raises(InvalidInput) as caught:
        prepare(make_bench(path, task=task, target="y"))
    return caught.value


def tar_gz(members: dict[str, bytes]) -> bytes:
    """A packed tar of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_a_table_in_an_archive_is_read_whatever_packed_it(make_bench: MakeBench, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(tar_gz({"in/data.csv": CSV}))
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("data.csv", CSV)
    digests = set()
    for name in ("a.tar.gz", "b.zip"):
        bench = make_bench(tmp_path / name, task="tabular", target="y")
        digests.add(prepare(bench).registers[0].meta["digest"])
    assert len(digests) == 1


@pytest.mark.parametrize("name", ["../out.csv", "/tmp/out.csv", "a/../../out.csv"])
def test_a_way_out_of_an_archive_is_refused_and_nothing_is_written_there(
    make_bench: MakeBench, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "in" / "data.tar.gz"
    path.parent.mkdir()
    path.write_bytes(tar_gz({name: CSV}))
    before = set(tmp_path.rglob("out.csv"))
    refused(make_bench, path)
    assert set(tmp_path.rglob("out.csv")) == before


def test_a_bomb_is_refused_before_it_is_unpacked(make_bench: MakeBench, tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed, packed.open("data.csv", "w") as out:
        for _ in range(300):
            out.write(bytes(1 << 20))
    error = refused(make_bench, path)
    assert "unpacks to more than" in error.message
    assert sum(file.stat().st_size for file in tmp_path.rglob("data.csv")) < 100 << 20


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_archive_is_refused(make_bench: MakeBench, tmp_path: Path, share: float) -> None:
    whole = tar_gz({"data.csv": CSV})
    (tmp_path / "cut.tar.gz").write_bytes(whole[: int(len(whole) * share)])
    assert "archive cannot be read" in refused(make_bench, tmp_path / "cut.tar.gz").message


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "data.parquet"])
@pytest.mark.parametrize("content", [b"", gzip.compress(CSV), b"\x89PNG\r\n\x1a\n" + bytes(200)])
def test_a_file_that_is_something_else_is_refused(
    make_bench: MakeBench, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert refused(make_bench, tmp_path / name).field in ("source", "target")


def test_a_table_in_another_encoding_loses_the_rows_that_show_it(make_bench: MakeBench, tmp_path: Path) -> None:
    lines = ["x,y", *(f"{n},{'grün' if n % 2 else 'rot'}" for n in range(60))]
    (tmp_path / "data.csv").write_bytes("\n".join(lines).encode("latin-1"))
    error = refused(make_bench, tmp_path / "data.csv")
    assert error.message == "30 of 60 rows (50.0%) are bad; most: is not UTF-8: 30"
    (tmp_path / "data.csv").write_bytes("\n".join(lines).encode("utf-16"))
    assert "the header is not UTF-8" in refused(make_bench, tmp_path / "data.csv").message


def test_rows_of_another_schema_are_judged_by_the_columns_that_they_have(make_bench: MakeBench, tmp_path: Path) -> None:
    rows = [{"x": n, "y": "ab"[n % 2]} for n in range(98)]
    odd = [{"x": "word", "y": "a"}, {"x": [1], "y": "a"}]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *odd]))
    bench = make_bench(tmp_path / "data.jsonl", task="tabular", target="y", max_bad_share=0.02)
    reasons = prepare(bench).outputs["quarantined"]["reasons"]
    assert reasons == {"is no flat JSON object": 1, "x is no finite number": 1}


@pytest.mark.parametrize("name", ["*", "^.*$", "^x$"])
def test_a_column_name_that_would_be_taken_for_a_pattern_is_refused(
    make_bench: MakeBench, tmp_path: Path, name: str
) -> None:
    (tmp_path / "data.csv").write_text("\n".join([f"x,{name},y", *(f"{n},{n},{'ab'[n % 2]}" for n in range(60))]))
    objects = [{"x": n, name: "word", "y": "ab"[n % 2]} for n in range(60)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(each) + "\n" for each in objects))
    pq.write_table(pa.Table.from_pylist(objects), tmp_path / "data.parquet")
    for suffix in ("csv", "jsonl", "parquet"):
        error = refused(make_bench, tmp_path / f"data.{suffix}")
        assert error.message == f"the name of column {name!r} is a pattern"


def test_a_first_block_without_the_features_does_no_harm(make_bench: MakeBench, tmp_path: Path) -> None:
    early = [{"y": "ab"[n % 2]} for n in range(30_000)]
    late = [{"y": "ab"[n % 2], "x": n} for n in range(30_000)]
    (tmp_path / "data.jsonl").write_text("".join(json.dumps(each) + "\n" for each in [*early, *late]))
    clean = [{"do": "missing", "policy": "mean"}]
    outputs = prepare(make_bench(tmp_path / "data.jsonl", task="tabular", target="y", clean=clean)).outputs
    assert (sum(outputs["rows"].values()), outputs["quarantined"]["rows"]) == (60_000, 0)


@pytest.mark.parametrize(
    ("clean", "message"),
    [
        ([{"do": "types", "columns": {"x": "ignore"}}], "there is no column to learn from beside the target"),
        ([{"do": "bounds", "column": "x", "min": 1000}], "the steps leave no row"),
    ],
)
def test_steps_that_leave_nothing_are_what_the_error_is_about(
    make_bench: MakeBench, tmp_path: Path, clean: list[dict[str, object]], message: str
) -> None:
    (tmp_path / "data.csv").write_bytes(CSV)
    with pytest.raises(InvalidInput) as caught:
        prepare(make_bench(tmp_path / "data.csv", task="tabular", target="y", clean=clean))
    assert caught.value.message == message


@pytest.mark.parametrize("rows", [0, 2])
def test_a_parquet_file_without_rows_or_labels_is_refused(make_bench: MakeBench, tmp_path: Path, rows: int) -> None:
    table = pa.table({"x": pa.array([1.0] * rows, pa.float64()), "y": pa.array([float("nan")] * rows, pa.float64())})
    pq.write_table(table, tmp_path / "data.parquet")
    message = refused(make_bench, tmp_path / "data.parquet").message
    assert message == f"no usable row: {rows} read, {rows} bad ({'the label is NaN: 2' if rows else 'none'})"


def test_an_empty_archive_holds_no_table(make_bench: MakeBench, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    assert "holds 0 tables" in refused(make_bench, tmp_path / "empty.zip").message
