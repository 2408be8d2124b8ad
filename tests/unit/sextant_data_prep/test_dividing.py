"""A large source in pieces: however it is cut, the version is the same; a source that has grown finds its pieces."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from tests.unit.sextant_data_prep.pieces import Workers, hashes

from sextant_data_prep.readers import blocks
from sextant_shared.errors import InvalidInput

TABLE: dict[str, Any] = {
    "task": "tabular",
    "target": "label",
    "clean": [
        {"do": "missing", "columns": ["x"], "policy": "mean", "flag": True},
        {"do": "outliers", "columns": ["n"]},
        {"do": "deduplicate"},
    ],
    "max_bad_share": 0.1,
}
TEXT: dict[str, Any] = {
    "task": "text-classification",
    "target": "label",
    "text": "text",
    "clean": [{"do": "unicode"}, {"do": "length", "min_chars": 6}, {"do": "deduplicate"}],
    "max_bad_share": 0.1,
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that small files have many places to be cut at."""
    monkeypatch.setattr(blocks, "BLOCK", 1 << 12)


def table_rows(rows: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Numbers, missing ones, words that come late, doubles."""
    rng = Random(seed)
    for number in range(rows):
        yield {
            "x": None if number % 17 == 3 else round(rng.gauss(0, 1), 4),
            "n": rng.randrange(1000) if number % 97 else 10**6,
            "word": ["red", "green", f"late{number // 400}"][rng.randrange(3)],
            "label": ["no", "yes"][rng.randrange(2)],
        }


def text_rows(rows: int) -> Iterator[dict[str, Any]]:
    """Sentences, some of them nearly the same as others."""
    rng = Random(1)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randrange(2, 9))) for _ in range(300)]
    text = ""
    for number in range(rows):
        text = f"{text}s" if number % 10 == 9 else " ".join(rng.choices(words, k=12))
        yield {"text": text, "label": "ab"[number // 2 % 2]}


def csv(path: Path, rows: list[dict[str, Any]]) -> Path:
    """With a ragged row, blank lines, and fields over several lines."""
    lines = [",".join(rows[0])]
    for number, row in enumerate(rows):
        values = ["" if value is None else str(value) for value in row.values()]
        if number % 50 == 7 and "text" in row:
            values[0] = f'"{values[0]}\nand ""more"", {number % 3}"'
        lines.append(",".join(values))
    lines[300:300] = ["", "1,2,3,4,5", '3,"a" stray,z,no', ""]
    path.write_text("\n".join(lines) + "\n")
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    """With a line that is no JSON, and a column that comes late."""
    lines = [json.dumps(row | ({"late": 1} if number > 500 else {})) for number, row in enumerate(rows)]
    lines.insert(200, "{oops")
    path.write_text("\n".join(lines) + "\n")
    return path


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    """In small row groups."""
    pl.DataFrame(rows).write_parquet(path, row_group_size=100)
    return path


def arrow(path: Path, rows: list[dict[str, Any]]) -> Path:
    """In small record batches."""
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return path


WRITERS = {"csv": csv, "jsonl": jsonl, "parquet": parquet, "arrow": arrow}


@pytest.mark.parametrize("suffix", WRITERS)
@pytest.mark.parametrize("kind", ["table", "text"])
def test_however_a_source_is_cut_the_version_is_the_same(
    workers: Workers, tmp_path: Path, suffix: str, kind: str
) -> None:
    rows, spec = (table_rows(900), TABLE) if kind == "table" else (text_rows(600), TEXT)
    path = WRITERS[suffix](tmp_path / f"data.{suffix}", list(rows))
    whole, told, none = workers.run(path, 1 << 30, **spec)
    assert none == 0
    for piece_bytes in (3_000, 6_000):
        cut, result, _ = workers.run(path, piece_bytes, **spec)
        assert result.outputs["pieces"]["all"] > 1
        assert hashes(cut) == hashes(whole)
        assert result.outputs["rows"] == told.outputs["rows"]


def test_texts_that_are_alike_are_found_in_different_pieces(workers: Workers, tmp_path: Path) -> None:
    path = csv(tmp_path / "data.csv", list(text_rows(400)))
    spec = TEXT | {"clean": [{"do": "deduplicate", "near": 0.95}]}
    whole, _, _ = workers.run(path, 1 << 30, **spec)
    cut, result, pieces = workers.run(path, 8_000, **spec)
    assert pieces > 2
    assert hashes(cut) == hashes(whole)
    assert result.outputs["removed"]["deduplicate"] > 10


def test_a_source_that_has_grown_does_what_is_new_alone(workers: Workers, tmp_path: Path) -> None:
    rows = list(table_rows(2400))
    _, first, pieces = workers.run(csv(tmp_path / "data.csv", rows[:1800]), 8_000, **TABLE)
    grown = csv(tmp_path / "data.csv", rows)
    again, second, more = workers.run(grown, 8_000, **TABLE)
    assert second.outputs["pieces"]["all"] > pieces
    assert more < second.outputs["pieces"]["all"] / 2
    whole, _, _ = workers.run(grown, 1 << 30, **TABLE)
    assert hashes(again) == hashes(whole)
    assert sum(second.outputs["rows"].values()) > sum(first.outputs["rows"].values())


def test_another_declaration_or_other_bytes_are_other_pieces(workers: Workers, tmp_path: Path) -> None:
    path = csv(tmp_path / "data.csv", list(table_rows(1000)))
    _, _, pieces = workers.run(path, 8_000, **TABLE)
    assert workers.run(path, 8_000, **TABLE, register_as="other", split={"val": 0.2})[2] == 0
    assert workers.run(path, 8_000, **TABLE | {"clean": TABLE["clean"][:2]})[2] == pieces
    assert workers.run(path, 8_000, **TABLE | {"seed": 1})[2] == pieces
    path.write_text(path.read_text().replace("red", "RED", 1))
    assert workers.run(path, 8_000, **TABLE)[2] == 1


def test_columns_that_turn_out_to_be_of_words_are_read_again_in_all_pieces(workers: Workers, tmp_path: Path) -> None:
    rows = [{"x": n if n < 800 else f"w{n % 5}", "z": n, "label": "ab"[n % 2]} for n in range(1500)]
    path = tmp_path / "data.csv"
    path.write_text("\n".join(["x,z,label", *(",".join(map(str, row.values())) for row in rows)]) + "\n")
    spec = {"task": "tabular", "target": "label", "clean": [{"do": "categories"}], "max_bad_share": 0.5}
    cut, _, pieces = workers.run(path, 4_000, **spec)
    whole, _, _ = workers.run(path, 1 << 30, **spec)
    assert hashes(cut) == hashes(whole)
    assert pieces > 2


def test_tables_of_an_archive_are_cut_and_grouped(workers: Workers, tmp_path: Path) -> None:
    rows = list(table_rows(2000))
    sizes = {"train/a.csv": (0, 900), "train/b.csv": (900, 950), "train/c.csv": (950, 1000), "test/d.csv": (1000, 2000)}
    for name, (first, last) in sizes.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        csv(tmp_path / name, rows[first:last])
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for name in sizes:
            packed.write(tmp_path / name, f"set/{name}")
    cut, _, pieces = workers.run(archive, 6_000, **TABLE)
    whole, _, _ = workers.run(archive, 1 << 30, **TABLE)
    assert hashes(cut) == hashes(whole)
    assert pieces > 4
    assert json.loads((cut.out / "dataset.json").read_text())["files"]["set/test/d.csv"] == 0


def test_tables_with_other_columns_are_refused_in_pieces_too(workers: Workers, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    csv(folder / "a.csv", list(table_rows(400)))
    csv(folder / "b.csv", [{"x": 1, "n": 2, "colour": "red", "label": "no"}] * 400)
    with pytest.raises(InvalidInput, match=r"b\.csv and a\.csv do not have the same columns: 'colour', 'word'"):
        workers.run(folder, 4_000, **TABLE)


def test_a_row_that_stands_in_two_pieces_is_one(workers: Workers, tmp_path: Path) -> None:
    rows = list(table_rows(600))
    path = tmp_path / "data.csv"
    lines = [",".join("" if v is None else str(v) for v in row.values()) for row in [*rows, *rows]]
    path.write_text("\n".join([",".join(rows[0]), *lines]) + "\n")
    _, result, _ = workers.run(path, 4_000, **TABLE)
    assert sum(result.outputs["rows"].values()) <= 600


def documents(root: Path, splits: tuple[str, ...] = ("",)) -> Path:
    """Two classes of texts, doubles among them, one that is no UTF-8, an empty one, and one in no class."""
    for number, row in enumerate(text_rows(200)):
        path = root / splits[number % len(splits)] / row["label"] / f"{number:03d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(row["text"] if number % 23 else "the same text again", encoding="utf-8")
    some = next(root.rglob("b"))
    (some / "broken.txt").write_bytes(b"\xff\xfe\xfd")
    (some / "empty.txt").write_text("")
    (root / "stray.txt").write_text("in no class")
    return root


@pytest.mark.parametrize("steps", [[], [{"do": "unicode"}, {"do": "deduplicate", "near": 0.95}]])
@pytest.mark.parametrize("splits", [("",), ("train", "train", "test")])
def test_however_a_folder_of_documents_is_cut_the_version_is_the_same(
    workers: Workers, tmp_path: Path, splits: tuple[str, ...], steps: list[dict[str, Any]]
) -> None:
    spec = {"task": "text-classification", "clean": steps or [{"do": "deduplicate"}], "max_bad_share": 0.1}
    root = documents(tmp_path / "set", splits)
    whole, told, none = workers.run(root, 1 << 30, **spec)
    assert none == 0
    for piece_bytes in (1, 900, 3_000):
        cut, result, _ = workers.run(root, piece_bytes, **spec)
        assert result.outputs["pieces"]["all"] > 2
        assert hashes(cut) == hashes(whole)
        assert result.outputs["rows"] == told.outputs["rows"]


def test_documents_that_are_added_cost_the_pieces_of_their_folder_alone(workers: Workers, tmp_path: Path) -> None:
    spec = {"task": "text-classification", "clean": [{"do": "deduplicate"}], "max_bad_share": 0.1}
    root = documents(tmp_path / "set")
    _, _, pieces = workers.run(root, 3_000, **spec)
    (root / "a" / "zz.txt").write_text("one more")
    again, _, more = workers.run(root, 3_000, **spec)
    assert more == 1 < pieces
    whole, _, _ = workers.run(root, 1 << 30, **spec)
    assert hashes(again) == hashes(whole)
