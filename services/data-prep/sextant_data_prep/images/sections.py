"""Where a folder of images is cut into pieces, in the order of its paths, and by what each of these is known."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from pydantic import BaseModel

from sextant_data_prep import cutting, listing
from sextant_data_prep.domain import image_steps
from sextant_data_prep.images.decoding import SUFFIXES, upright_size
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.errors import InvalidInput

MAX_SIDE = 256


class Section(BaseModel):
    """Images that lie together: their paths below the folder, and the hash of these and of their bytes."""

    paths: list[str]
    """As bytes in Latin-1: a path need not be UTF-8, and what a worker is told of must."""
    content: str

    @property
    def names(self) -> list[str]:
        """The paths as this machine has them."""
        return [os.fsdecode(path.encode("latin-1")) for path in self.paths]


def listed(root: Path) -> list[Path]:
    """The images of a folder. Raises InvalidInput where there is none."""
    files = [path for path in listing.files(root) if path.suffix.lower() in SUFFIXES]
    if not files:
        raise InvalidInput(
            "the folder holds no image", field="source", accepted=f"CLASS/FILE with {', '.join(SUFFIXES)}"
        )
    return files


def size_of(files: Sequence[Path], spec: PrepareSpec) -> tuple[int, int]:
    """Width and height of all: what a step asks for, or the most frequent ones, up to 256 a side."""
    if asked := image_steps.size(list(spec.clean)):
        return asked
    found = Counter(size for path in files if (size := upright_size(path)))
    size = found.most_common(1)[0][0] if found else (1, 1)
    scale = min(1.0, MAX_SIDE / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def cut(root: Path, files: Sequence[Path], least: int) -> list[Section]:
    """The sections, of at least `least` bytes each but for the last ones of folders.

    A folder of so many has sections of its own: images that are added to another one change none of them.
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


def known_by(section: Section, spec: PrepareSpec, size: tuple[int, int]) -> str:
    """The hash of all that a piece is made of."""
    declared = spec.model_dump(mode="json", include={"task", "clean"})
    whole = [declared, list(size), section.content, cutting.code()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


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
