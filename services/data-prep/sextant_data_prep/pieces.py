"""What cleaning a piece of a source leaves in a directory: staged rows, what was noted, and what is known of columns.

Nothing in it says where in the source the piece stood, so that the same rows make the same piece wherever they stand.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from sextant_data_prep.ledger import Counts

NAME = "piece.json"
STAGING, SIGNATURES = "staging", "signatures"
KEY, GROUP = "\0key", "\0group"
"""The columns of keys: of a row's content, and of its group."""
SPLIT, TIME = "\0split", "\0time"


class Words(BaseModel):
    """The different values of a column of words by their codes, the rows of each, and whether there were too many."""

    values: list[str]
    counts: list[int]
    more: bool


class Found(BaseModel):
    """What was found in a column."""

    present: int
    numbers: int
    words: Words | None


class Piece(BaseModel):
    """All that is known of a piece beside its rows."""

    counts: Counts
    labels: list[str]
    """By code."""
    known: list[str]
    """The columns of the source, in the order in which they came."""
    header: bool
    """Whether these were told before the rows, so that all pieces must have the same."""
    rows: int
    """Rows whose columns were looked at."""
    columns: dict[str, Found]
    staged: list[int]
    """Rows of each staged frame."""
    zoned: int
    naive: int
    """Times with and without a zone."""
    starts: list[int]
    """By table the number before its first row."""
    seen: int
    """The highest number of a row."""
    through: int
    """The number of the last line that was looked at."""


def read(directory: Path) -> Piece:
    """The piece in a directory."""
    return Piece.model_validate_json((directory / NAME).read_bytes())
