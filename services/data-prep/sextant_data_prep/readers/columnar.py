"""Tables whose files have columns: types as the file has them, brought to texts and numbers as from any source."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import polars as pl
import pyarrow as pa

from sextant_data_prep.readers.batch import ROW, Batch, check, typed
from sextant_shared.errors import InvalidInput

ROWS = 65_536
BINARY = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
REFUSED = (*BINARY, pa.types.is_nested, pa.types.is_duration)
ACCEPTED = "columns of numbers, texts, true and false, dates and times"
HUGGING_FACE = b"huggingface"


def check_schema(schema: pa.Schema) -> None:
    """Raise InvalidInput for columns that cannot be read: too many, nested or binary ones, or with a name twice."""
    check(schema.names)
    for field in schema:
        if any(refused(field.type) for refused in REFUSED):
            raise InvalidInput(
                f"column {field.name[:80]!r} is of type {str(field.type)[:80]}", field="source", accepted=ACCEPTED
            )
    if len(set(schema.names)) != len(schema):
        raise InvalidInput("two columns have the same name", field="source", accepted="unique names")


def batches(
    schema: pa.Schema, found: Iterable[pa.RecordBatch], numeric: Collection[str], nulls: Collection[str]
) -> Iterator[Batch]:
    """The rows, numbered from 1, behind an empty batch with all columns."""
    texts = pl.DataFrame(schema=dict.fromkeys(schema.names, pl.String) | {ROW: pl.Int64})
    yield Batch(typed(texts, numeric, nulls))
    names, first = class_names(schema), 1
    for part in found:
        frame = pl.DataFrame(pl.from_arrow(pa.Table.from_batches([part])))
        frame = frame.with_columns(pl.col(pl.Categorical, pl.Enum).cast(pl.String))
        frame = frame.with_columns(_named(name, known) for name, known in names.items())
        bad, frame = _without_nul(frame.with_columns(pl.int_range(first, first + len(frame), eager=True).alias(ROW)))
        first += part.num_rows
        yield Batch(typed(frame, numeric, nulls), bad, first - 1)


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """By column the names of its classes, where Hugging Face's `datasets` wrote them beside columns of numbers."""
    try:
        features = json.loads((schema.metadata or {}).get(HUGGING_FACE, b"{}"))["info"]["features"].items()
        found = {name: feature["names"] for name, feature in features if feature["_type"] == "ClassLabel"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}  # What is beside the data and cannot be understood says nothing.
    known = {field.name for field in schema if pa.types.is_integer(field.type)}
    return {name: names for name, names in found.items() if name in known and _are_names(names)}


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) for name in names)


def _named(column: str, names: list[str]) -> pl.Expr:
    """The class names in place of their numbers; null for -1, which stands for no class, and for any other."""
    numbers = pl.col(column).cast(pl.Int64, strict=False)
    return numbers.replace_strict(range(len(names)), names, default=None, return_dtype=pl.String).alias(column)


def _without_nul(frame: pl.DataFrame) -> tuple[list[tuple[int, str]], pl.DataFrame]:
    """Take out the rows with NUL, which no database takes."""
    words = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    if not words:
        return [], frame
    holds = [pl.col(name).str.contains("\0", literal=True).fill_null(value=False) for name in words]
    nul = frame.select(pl.any_horizontal(holds)).to_series()
    return [(row, "holds NUL") for row in frame[ROW].filter(nul)], frame.filter(~nul)
