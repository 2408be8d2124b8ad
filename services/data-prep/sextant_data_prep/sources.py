"""What of an upload holds the rows: one table, several that go together, or a folder of documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath

from sextant_data_prep import listing
from sextant_data_prep.domain import splitting
from sextant_data_prep.readers import BY_SUFFIX, plain, reader
from sextant_data_prep.readers.batch import Reader
from sextant_data_prep.readers.several import Part, Several
from sextant_shared.errors import InvalidInput

MAX_TABLES = 2000


@dataclass(frozen=True, slots=True)
class Table:
    """One of the files."""

    name: str
    """Its path below the upload's folder; empty where the upload is this file."""
    path: Path
    split: str | None = None
    """What its name says, where the names of all say one."""


@dataclass(frozen=True, slots=True)
class Documents:
    """A folder of texts, a sub-folder a class, in the order of their paths."""

    root: Path
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from."""

    read: Reader
    documents: Documents | None = None
    """The documents that they are, if they are some."""
    splits: bool = False
    """Whether the names of the files say the splits."""
    before: Mapping[str, int] = field(default_factory=dict)
    """By the file's name the number that comes before its first row, once it was read; empty for a single file."""
    tables: tuple[Table, ...] = ()
    """The files in the order in which they are read; empty for documents."""


def of(path: Path, task: str) -> Source:
    """The rows of a file or a folder. Raises InvalidInput where it is not to be told which they are."""
    found = listing.files(path) if path.is_dir() else [path]
    tables = [file for file in found if file.suffix.lower() in BY_SUFFIX]
    if not tables and task == "text-classification" and path.is_dir() and (texts := plain.documents(path)):
        return of_documents(path, texts, splits=plain.say_splits(path, texts))
    if len({BY_SUFFIX[file.suffix.lower()] for file in tables}) > 1:
        kinds = ", ".join(sorted({file.suffix.lower() for file in tables}))
        raise _unclear(f"the upload holds tables of several kinds: {kinds}")
    if not 1 <= len(tables) <= MAX_TABLES:
        raise _unclear(f"the upload holds {len(tables)} tables")
    names = [str(file.relative_to(path)) if file != path else "" for file in tables]
    if len(tables) == 1:
        return Source(reader(tables[0]), tables=(Table(names[0], tables[0]),))
    return together(_with_splits([Table(name, file) for name, file in zip(names, tables, strict=True)]))


def of_documents(root: Path, files: Sequence[Path], *, splits: bool, first: bool = True) -> Source:
    """Texts of a folder: all, or those of a piece, which is the `first` or not. `splits`: whether folders say them."""
    read = partial(plain.read, root, tuple(files), splits=splits, begin=0 if first else 1)
    return Source(read, documents=Documents(root, tuple(files)), splits=splits)


def together(tables: Sequence[Table], begin: int = 0, end: int | None = None) -> Source:
    """Several tables, or the part from `begin` to `end` of one of several, as one source."""
    parts = [Part(table.name, reader(table.path, begin, end), table.split) for table in tables]
    several = Several(parts)
    by_name = any(table.split is not None for table in tables)
    return Source(several, splits=by_name, before=several.before, tables=tuple(tables))


def _with_splits(tables: list[Table]) -> list[Table]:
    splits = [splitting.of_path(PurePath(table.name)) for table in tables]
    by_name = len(set(splits) - {None}) > 1
    if by_name and None in splits:
        other = tables[splits.index(None)].name
        raise InvalidInput(
            f"the names of some tables say their split, and {other[:80]!r} does not",
            field="source",
            accepted="names with train, val or test for all or none, or upload://ID/PATH for one of them",
        )
    return [replace(table, split=split if by_name else None) for table, split in zip(tables, splits, strict=True)]


def _unclear(message: str) -> InvalidInput:
    accepted = f"1 to {MAX_TABLES} files of one kind of {', '.join(BY_SUFFIX)}, or upload://ID/PATH for one of them"
    return InvalidInput(message, field="source", accepted=accepted)
