"""Where a folder of many files is cut, in the order of their paths: documents, images, or images with their boxes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel

from sextant_data_prep import listing


class Section(BaseModel):
    """Files that lie together: paths below the folder, and the hash of these and of all bytes that are theirs."""

    paths: list[str]
    """As bytes in Latin-1: a path need not be UTF-8, and what a worker is told of must."""
    content: str

    @property
    def names(self) -> list[str]:
        """The paths as this machine has them."""
        return [os.fsdecode(path.encode("latin-1")) for path in self.paths]


def cut(
    root: Path,
    files: Sequence[Path],
    least: int,
    weigh: Callable[[Path], int],
    together: Callable[[Path], Sequence[Path]] = lambda path: (),
) -> list[Section]:
    """The sections, which weigh `least` or more each but for the last ones of folders; `together` is what is a file's.

    A folder of so much has sections of its own: files that are added to another one change none of them.
    """
    found: list[Section] = []
    waiting: list[Path] = []
    held = 0
    for _, group in groupby(files, key=lambda path: path.parent):
        weighed = [(path, weigh(path)) for path in group]
        weight = sum(each for _, each in weighed)
        if weight < least:
            waiting += [path for path, _ in weighed]
            held += weight
        if waiting and (held >= least or weight >= least):
            found.append(_section(root, waiting, together))
            waiting, held = [], 0
        if weight >= least:
            found += [_section(root, part, together) for part in _parts(weighed, least)]
    return [*found, _section(root, waiting, together)] if waiting else found


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


def _section(root: Path, files: Sequence[Path], together: Callable[[Path], Sequence[Path]]) -> Section:
    digest, paths = hashlib.sha256(), []
    for path in files:
        name = os.fsencode(path.relative_to(root))
        for file in (path, *together(path)):
            digest.update(_content(listing.held(root, str(file.relative_to(root)))))
        digest.update(len(name).to_bytes(4, "big") + name)
        paths.append(name.decode("latin-1"))
    return Section(paths=paths, content=digest.hexdigest())


def _content(file: Path | None) -> bytes:
    """The hash of a file's bytes; zeros where there is none."""
    if file is None:
        return bytes(hashlib.sha256().digest_size)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
