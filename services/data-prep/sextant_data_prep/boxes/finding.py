"""Which images go together as a row, by the paths that the spec declares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sextant_data_prep import listing
from sextant_shared.contracts.annotations import Annotations, Template
from sextant_shared.errors import InvalidInput

SHOWN = 3


@dataclass(frozen=True, slots=True)
class Row:
    """Paths below the source: its images, and the file of its boxes; and what the fields of these say."""

    images: tuple[str, ...]
    file: str
    fields: dict[str, str]


def listed(root: Path, boxes: Annotations) -> list[Row]:
    """Those whose last image is there, by its path. Raises InvalidInput where there is none."""
    paths = [path.relative_to(root).as_posix() for path in listing.files(root)]
    found = rows(paths, boxes)
    if not found:
        there = ", ".join(path[:120] for path in paths[:SHOWN]) or "no file"
        raise InvalidInput(
            f"no file has a path like {boxes.images[-1][:120]!r}; there are: {there}",
            field="boxes.images",
            accepted="paths below the source, with fields in braces",
        )
    return found


def rows(paths: Sequence[str], boxes: Annotations) -> list[Row]:
    """Those of these paths that are the last image of a row."""
    images, file = [Template(path) for path in boxes.images], Template(boxes.file)
    found = []
    for path in paths:
        fields = images[-1].match(path)
        if fields is not None:
            others = [image.fill(fields) for image in images[:-1]]
            found.append(Row((*others, path), file.fill(fields), fields))
    return found
