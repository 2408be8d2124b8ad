"""Arrow files and streams, and the class names that `datasets` keeps beside numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.readers import arrow, columnar, parquet
from sextant_data_prep.readers.batch import ROW, Batch, Reader
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]


def whole(read: Reader, **asked: Any) -> Batch:
    """All batches as one."""
    found = list(read(**asked))
    return Batch(pl.concat([batch.frame for batch in found]), [pair for batch in found for pair in batch.bad])


def saved(path: Path, table: pa.Table, *, stream: bool = True) -> Path:
    """An Arrow file of the table."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    with new(str(path), table.schema) as writer:
        writer.write_table(table)
    return path


def with_classes(table: pa.Table, features: Any) -> pa.Table:
    """The table with the notes of `datasets` beside it."""
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


@pytest.mark.parametrize("stream", [True, False])
def test_arrow_gives_what_parquet_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stream: bool) -> None:
    monkeypatch.setattr(columnar, "ROWS", 7)
    words = pa.array([f"w{n % 3}" for n in range(20)])
    table = pa.table({"x": range(20), "word": words, "code": words.dictionary_encode(), "half": [None, 0.5] * 10})
    pq.write_table(table, tmp_path / "a.parquet")
    read = partial(arrow.read, saved(tmp_path / "a.arrow", table, stream=stream))
    found = whole(read, numeric=["x", "half"]).frame
    assert found.equals(whole(partial(parquet.read, tmp_path / "a.parquet"), numeric=["x", "half"]).frame)
    assert found[ROW].to_list() == list(range(1, 21))


def test_class_names_stand_in_place_of_their_numbers_and_of_none_where_there_is_no_class(tmp_path: Path) -> None:
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "x": {"dtype": "int64", "_type": "Value"}}
    table = with_classes(pa.table({"label": [1, 0, -1, 2, None], "x": [1, 0, 1, 0, 1]}), features)
    pq.write_table(table, tmp_path / "a.parquet")
    for read in (
        partial(parquet.read, tmp_path / "a.parquet"),
        partial(arrow.read, saved(tmp_path / "a.arrow", table)),
    ):
        assert whole(read).frame["label"].to_list() == ["yes", "no", None, None, None]
        assert whole(read).frame["x"].to_list() == ["1", "0", "1", "0", "1"]


@pytest.mark.parametrize(
    "features",
    [
        None,
        [],
        {"x": {}},
        {"x": {"_type": "ClassLabel", "names": "ab"}},
        {"x": {"_type": "ClassLabel", "names": [1, 2]}},
        {"other": {"_type": "ClassLabel", "names": ["a"]}},
    ],
)
def test_notes_that_cannot_be_understood_say_nothing(tmp_path: Path, features: Any) -> None:
    table = with_classes(pa.table({"x": [0, 1]}), features)
    assert whole(partial(arrow.read, saved(tmp_path / "a.arrow", table))).frame["x"].to_list() == ["0", "1"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, stream: bool, share: float) -> None:
    path = saved(tmp_path / "a.arrow", pa.table({"x": list(range(1000))}), stream=stream)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InvalidInput, match="the Arrow file cannot be read"):
        list(arrow.read(path))


def test_a_stream_that_was_cut_off_between_two_batches_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.arrow", pa.table({"x": [1, 2]}))
    path.write_bytes(path.read_bytes().removesuffix(arrow.END))
    with pytest.raises(InvalidInput, match="it ends too early"):
        list(arrow.read(path))


def test_texts_whose_places_lead_out_of_the_file_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.arrow", pa.table({"x": ["one", "two", "three"]}))
    places = b"".join(place.to_bytes(4, "little") for place in (0, 3, 6, 11))
    content = path.read_bytes()
    assert content.count(places) == 1
    path.write_bytes(content.replace(places, places[:-4] + (1 << 30).to_bytes(4, "little")))
    with pytest.raises(InvalidInput, match="the Arrow file cannot be read"):
        list(arrow.read(path))


def test_a_folder_that_datasets_saved_is_read_with_its_splits_and_class_names(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    features = {"label": {"names": ["ham", "spam"], "_type": "ClassLabel"}}
    for split, first, last in (("train", 0, 80), ("validation", 80, 100), ("test", 100, 120)):
        texts = [f"message number {number}" for number in range(first, last)]
        table = with_classes(pa.table({"text": texts, "label": [n % 2 for n in range(first, last)]}), features)
        saved(tmp_path / "set" / split / "data-00000-of-00001.arrow", table)
        (tmp_path / "set" / split / "state.json").write_text("{}")
    (tmp_path / "set" / "dataset_dict.json").write_text('{"splits": ["train", "validation", "test"]}')
    bench = make_bench(tmp_path / "set", task="text-classification", text="text", target="label")
    result = prepare(bench)
    assert result.outputs["rows"] == {"train": 80, "val": 20, "test": 20}
    assert result.registers[0].meta["target"]["classes"] == ["ham", "spam"]
