"""Rows of CSV and JSON lines one by one: slow and exact. The readers of blocks come here where they are in doubt."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sextant_data_prep.domain.texts import fault

NO_CSV = f"is no CSV: stray quotes, or over {csv.field_size_limit()} characters in a field"
Row = dict[str, str | None]


@dataclass(frozen=True, slots=True)
class Record:
    """The lines from `at` up to `end`: their fields, or what is wrong with them; an empty list for a blank line."""

    at: int
    end: int
    fields: list[str] | str


def split(block: bytes) -> list[str]:
    """The lines of a block, with their ends.

    Bytes that are no UTF-8 become halves of surrogate pairs: a fault of their row, not of the file.
    """
    return list(io.StringIO(block.decode(errors="surrogateescape"), newline=""))


def size(lines: list[str]) -> int:
    """How many bytes the lines were."""
    return len("".join(lines).encode(errors="surrogateescape"))


def records(lines: list[str], *, whole: bool = True) -> Iterator[Record]:
    """The records of CSV lines. Where the lines are not the `whole` rest, one that may go on behind them is held back.

    A record goes on to the next line while a quote is open. One whose quotes are wrong is its first line alone, so that
    it takes no other with it.
    """
    at = 0
    while at < len(lines):
        end = _end(lines, at)
        if end is None and not whole:
            return
        end = end or at + 1
        text = "".join(lines[at:end])
        fields = _fields(text)
        if fields is None:
            text, end = lines[at], at + 1
        yield Record(at, end, (fault(text) or fields or NO_CSV) if text.strip() else [])
        at = end


def _end(lines: list[str], at: int) -> int | None:
    quotes = 0
    for end in range(at, len(lines)):
        quotes += lines[end].count('"')
        if quotes % 2 == 0:
            return end + 1
    return None


def _fields(text: str) -> list[str] | None:
    if text.count('"') % 2:
        return None
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error:
        return None


def flat_object(line: str) -> Row | str:
    """The object that a line of JSON holds, or what is wrong with it. Of a key that stands twice the first counts."""
    try:
        value = json.loads(line, object_pairs_hook=_first)
    except (ValueError, RecursionError):
        return fault(line) or "is no JSON"
    if not isinstance(value, dict) or any(isinstance(item, dict | list) for item in value.values()):
        return "is no flat JSON object"
    row = {name: _text(item) for name, item in value.items()}
    return fault("".join(text for pair in row.items() for text in pair if text)) or row


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        found.setdefault(name, value)
    return found


def _text(item: object) -> str | None:
    match item:
        case None:
            return None
        case bool():
            return "true" if item else "false"
        case float():
            return str(item).removesuffix(".0")
        case _:
            return str(item) or None
