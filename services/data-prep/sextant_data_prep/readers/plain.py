"""Plain text: a folder of documents, one sub-folder a class, as for images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import polars as pl

from sextant_data_prep import listing
from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.texts import fault
from sextant_data_prep.readers.batch import FILE_SPLIT, ROW, Batch

SUFFIX = ".txt"
TEXT, LABEL = "text", "class"
MAX_BYTES = 16 << 20
FILES = 256


def read(
    root: Path,
    found: Sequence[Path],
    numeric: Collection[str] = (),
    nulls: Collection[str] = (),
    *,
    splits: bool,
    begin: int = 0,
) -> Iterator[Batch]:
    """The documents `root`/CLASS/FILE.txt, or `root`/SPLIT/CLASS/FILE.txt, numbered in the order of their paths.

    They are numbered from `begin` on; `splits` says that the folders above classes say splits. None is a number, or
    missing.
    """
    del numeric, nulls
    for numbered in _groups(found, begin):
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
            said = [splitting.of_folder(found[number - begin].relative_to(root)) for number in frame[ROW]]
            frame = frame.with_columns(pl.Series(FILE_SPLIT, said, pl.String))
        yield Batch(frame, bad, numbered[-1][0])


def documents(root: Path) -> list[Path]:
    """The text files below a folder, sorted."""
    return [path for path in listing.files(root) if path.suffix.lower() == SUFFIX]


def say_splits(root: Path, found: Sequence[Path]) -> bool:
    """Whether the folders of documents say their splits. Raises InvalidInput where those of some do alone."""
    return splitting.of_folders([path.relative_to(root) for path in found]) is not None


def _groups(found: Sequence[Path], begin: int) -> Iterator[list[tuple[int, Path]]]:
    numbered = list(enumerate(found, begin))
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
