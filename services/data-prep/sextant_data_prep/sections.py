"""Where a folder of many files is cut, in the order of their paths: documents, or images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel


class Section(BaseModel):
    """Files that lie together: their paths below the folder, and the hash of these and of their bytes."""

    paths: list[str]
    """As bytes in Latin-1: a path need not be UTF-8, and what a worker is told of must."""
    content: str

    @property
    def names(self) -> list[str]:
        """The paths as this machine has them."""
        return [os.fsdecode(path.encode("latin-1")) for path in self.paths]


def cut(root: Path, files: Sequence[Path], least: int) -> list[Section]:
    """The sections, of at least `least` bytes each but for the last ones of folders.

    A folder of so many has sections of its own: files that are added to another one change none of them.
    """
    found: list[Section] = []
    waiting: list[Path] = []
    for _, group in groupby(files, key=lambda path: path.parent):
        together = list(group)
        if _bytes(together) < least:
            waiting += together
            if _bytes(waiting) >= least:
                found.append(_section(root, waiting))
                waiting = []
            continue
        if waiting:
            found.append(_section(root, waiting))
            waiting = []
        found += [_section(root, part) for part in _parts(together, least)]
    return [*found, _section(root, waiting)] if waiting else found


def _parts(files: Sequence[Path], least: int) -> Iterator[list[Path]]:
    part: list[Path] = []
    held = 0
    for path in files:
        part.append(path)
        held += path.stat().st_size
        if held >= least:
            yield part
            part, held = [], 0
    if part:
        yield part


def _bytes(files: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in files)


def _section(root: Path, files: Sequence[Path]) -> Section:
    digest, paths = hashlib.sha256(), []
    for path in files:
        name = os.fsencode(path.relative_to(root))
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
        digest.update(len(name).to_bytes(4, "big") + name)
        paths.append(name.decode("latin-1"))
    return Section(paths=paths, content=digest.hexdigest())
