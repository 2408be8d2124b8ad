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
        there = ", ".join(repr(path[:120]) for path in paths[:SHOWN]) or "no file"
        raise InvalidInput(
            f"no file has a path like {boxes.images[-1][:120]!r}; there are: {there}",
            field="boxes.images",
            accepted="paths below the source, with fields in braces",
        )
    return found


def rows(paths: Sequence[str], boxes: Annotations) -> list[Row]:
    """Those of these paths that are the last image of a row. Raises InvalidInput where a row would leave the source."""
    images, file = [Template(path) for path in boxes.images], Template(boxes.file)
    found = []
    for path in paths:
        fields = images[-1].match(path)
        if fields is not None:
            others = [_filled(image, fields, "boxes.images") for image in images[:-1]]
            found.append(Row((*others, path), _filled(file, fields, "boxes.file"), fields))
    return found


def _filled(template: Template, fields: dict[str, str], field: str) -> str:
    path = template.fill(fields)
    if any(part in (".", "..") for part in path.split("/")):
        raise InvalidInput(
            f"{template.text[:80]!r} would lead to {path[:120]!r}", field=field, accepted="paths below the source"
        )
    return path
