"""Where a folder of many files is cut, in the order of their paths: documents, or images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
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


def cut(root: Path, files: Sequence[Path], least: int, weigh: Callable[[Path], int]) -> list[Section]:
    """The sections, which weigh `least` or more each but for the last ones of folders.

    A folder of so much has sections of its own: files that are added to another one change none of them.
    """
    found: list[Section] = []
    waiting: list[Path] = []
    held = 0
    for _, group in groupby(files, key=lambda path: path.parent):
        together = [(path, weigh(path)) for path in group]
        weight = sum(each for _, each in together)
        if weight < least:
            waiting += [path for path, _ in together]
            held += weight
        if waiting and (held >= least or weight >= least):
            found.append(_section(root, waiting))
            waiting, held = [], 0
        if weight >= least:
            found += [_section(root, part) for part in _parts(together, least)]
    return [*found, _section(root, waiting)] if waiting else found


def _parts(files: Sequence[tuple[Path, int]], least: int) -> Iterator[list[Path]]:
    part: list[Path] = []
    held = 0
    for path, weight in files:
        part.append(path)
        held += weight
        if held >= least:
            yield part
            part, held = [], 0
    if part:
        yield part


def _section(root: Path, files: Sequence[Path]) -> Section:
    digest, paths = hashlib.sha256(), []
    for path in files:
        name = os.fsencode(path.relative_to(root))
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
        digest.update(len(name).to_bytes(4, "big") + name)
        paths.append(name.decode("latin-1"))
    return Section(paths=paths, content=digest.hexdigest())
