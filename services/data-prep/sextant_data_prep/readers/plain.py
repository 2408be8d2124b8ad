"""Plain text: a folder of documents, one sub-folder a class, as for images."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

import polars as pl

from sextant_data_prep import listing
from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.texts import fault
from sextant_data_prep.readers.batch import FILE_SPLIT, ROW, Batch
from sextant_shared.errors import InvalidInput

SUFFIX = ".txt"
TEXT, LABEL = "text", "class"
MAX_BYTES = 16 << 20
FILES = 256


def read(root: Path, numeric: Collection[str] = (), nulls: Collection[str] = ()) -> Iterator[Batch]:
    """The documents `root`/CLASS/FILE.txt, or `root`/SPLIT/CLASS/FILE.txt, numbered in the order of their paths.

    None is a number, or missing.
    """
    del numeric, nulls
    found = documents(root)
    if not found:
        raise InvalidInput("the folder holds no text", field="source", accepted=f"CLASS/FILE{SUFFIX}")
    splits = given_splits(root, found)
    for numbered in _groups(found):
        rows: list[tuple[str, str, int]] = []
        bad: list[tuple[int, str]] = []
        for number, path in numbered:
            text, why = _document(path, root)
            if why:
                bad.append((number, why))
            else:
                rows.append((text, path.parent.name, number))
        frame = pl.DataFrame(rows, {TEXT: pl.String, LABEL: pl.String, ROW: pl.Int64}, orient="row")
        if splits:
            said = [splits[number] for number in frame[ROW]]
            frame = frame.with_columns(pl.Series(FILE_SPLIT, said, pl.String))
        yield Batch(frame, bad, numbered[-1][0])


def documents(root: Path) -> list[Path]:
    """The text files below a folder, sorted."""
    return [path for path in listing.files(root) if path.suffix.lower() == SUFFIX]


def given_splits(root: Path, found: list[Path]) -> list[str] | None:
    """The splits that the folders of documents say. Raises InvalidInput where those of some do alone."""
    return splitting.of_folders([path.relative_to(root) for path in found])


def _groups(found: list[Path]) -> Iterator[list[tuple[int, Path]]]:
    numbered = list(enumerate(found))
    return (numbered[at : at + FILES] for at in range(0, len(numbered), FILES))


def _document(path: Path, root: Path) -> tuple[str, str | None]:
    """The text, and what is wrong with it."""
    if path.parent == root:
        return "", "is in no class folder"
    if why := fault(path.parent.name):
        return "", f"its class name {why}"
    if path.stat().st_size > MAX_BYTES:
        return "", f"is over {MAX_BYTES} bytes"
    text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    return text, fault(text)
