"""What of an upload holds the rows: one table, several that go together, or a folder of documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from sextant_data_prep import listing
from sextant_data_prep.domain import splitting
from sextant_data_prep.readers import BY_SUFFIX, plain, reader
from sextant_data_prep.readers.batch import Reader
from sextant_data_prep.readers.several import Part, Several
from sextant_shared.errors import InvalidInput

MAX_TABLES = 2000


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from."""

    read: Reader
    documents: bool = False
    """Whether they are documents, with a folder a class."""
    splits: bool = False
    """Whether the names of the files say the splits."""
    before: Mapping[str, int] = field(default_factory=dict)
    """By the file's name the number that comes before its first row, once it was read; empty for a single file."""


def of(path: Path, task: str) -> Source:
    """The rows of a file or a folder. Raises InvalidInput where it is not to be told which they are."""
    found = listing.files(path) if path.is_dir() else [path]
    tables = [file for file in found if file.suffix.lower() in BY_SUFFIX]
    if not tables and task == "text-classification" and path.is_dir() and plain.documents(path):
        return Source(reader(path), documents=True)
    if len({BY_SUFFIX[file.suffix.lower()] for file in tables}) > 1:
        kinds = ", ".join(sorted({file.suffix.lower() for file in tables}))
        raise _unclear(f"the upload holds tables of several kinds: {kinds}")
    if not 1 <= len(tables) <= MAX_TABLES:
        raise _unclear(f"the upload holds {len(tables)} tables")
    return _together(tables, path) if len(tables) > 1 else Source(reader(tables[0]))


def _together(tables: list[Path], folder: Path) -> Source:
    names = [PurePath(file.relative_to(folder)) for file in tables]
    splits = [splitting.of_path(name) for name in names]
    by_name = len(set(splits) - {None}) > 1
    if by_name and None in splits:
        other = str(names[splits.index(None)])
        raise InvalidInput(
            f"the names of some tables say their split, and {other[:80]!r} does not",
            field="source",
            accepted="names with train, val or test for all or none, or upload://ID/PATH for one of them",
        )
    parts = [
        Part(str(name), reader(file), split if by_name else None)
        for name, file, split in zip(names, tables, splits, strict=True)
    ]
    several = Several(parts)
    return Source(several, splits=by_name, before=several.before)


def _unclear(message: str) -> InvalidInput:
    accepted = f"1 to {MAX_TABLES} files of one kind of {', '.join(BY_SUFFIX)}, or upload://ID/PATH for one of them"
    return InvalidInput(message, field="source", accepted=accepted)
