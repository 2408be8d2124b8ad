"""A dataset version of images with boxes: in one piece, or of pieces that several workers looked at."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel

from sextant_data_prep import cutting, listing, sections
from sextant_data_prep.boxes import assigning, finding, looking, parsing
from sextant_data_prep.boxes.finding import Row
from sextant_data_prep.boxes.gathering import Gathered, gather
from sextant_data_prep.domain import image_steps
from sextant_data_prep.domain.quality import Column, Quality, histogram
from sextant_data_prep.images import writing
from sextant_data_prep.images.decoding import upright_size
from sextant_data_prep.images.preparing import PACKED, Order
from sextant_data_prep.images.writing import Beside, Rows
from sextant_data_prep.ledger import Ledger
from sextant_data_prep.sections import Section
from sextant_shared.contracts.annotations import Annotations
from sextant_shared.contracts.cleaning import Deduplicate
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.damage import Damaged
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Divided, Parts, Piece, Result

Say = Callable[..., None]


class Plan(BaseModel):
    """What is known of the whole when it is put together."""

    sections: list[Section]
    size: tuple[int, int]


def divide(spec: PrepareSpec, root: Path, least: int) -> Divided | None:
    """The pieces of a large folder; None for a small one, which is one."""
    rows, boxes = _listed(root, spec), _boxes(spec)
    size, by_path = _size(root, rows, spec), {root / row.images[-1]: row for row in rows}
    decoded = 3 * len(boxes.images) * size[0] * size[1] // PACKED

    def beside(row: Row) -> list[str]:
        return [] if boxes.format == "coco" else [row.file]

    def together(path: Path) -> list[Path]:
        row = by_path[path]
        return [root / name for name in (*row.images[:-1], *beside(row))]

    def weight(path: Path) -> int:
        row = by_path[path]
        files = [listing.held(root, name) for name in (*row.images, *beside(row))]
        return max(decoded, sum(cutting.size_of(file) for file in files if file is not None))

    found = sections.cut(root, list(by_path), least, weight, together)
    if len(found) < 2:
        return None
    marks_of = parsing.reader(root, boxes)
    pieces = [
        Piece(
            digest=_known_by(section, spec, size, _said(section, spec, marks_of) if boxes.format == "coco" else []),
            order=Order(section=section, size=size).model_dump(mode="json"),
        )
        for section in found
    ]
    return Divided(pieces=pieces, note=Plan(sections=found, size=size).model_dump(mode="json"))


def clean(
    spec: PrepareSpec, order: dict[str, Any], upload: Callable[[Sequence[str]], Path], out: Path, say: Say
) -> Result:
    """Look at the rows of one piece; its directory is `out`."""
    mine, boxes = Order.model_validate(order), _boxes(spec)
    rows = finding.rows(mine.section.names, boxes)
    root = upload([name for row in rows for name in (*row.images, row.file)])
    looking.look(root, rows, boxes, mine.size, out, say)
    return Result(outputs={"rows": len(rows)})


def put_together(spec: PrepareSpec, parts: Parts) -> Gathered:
    """The rows of all pieces."""
    plan = Plan.model_validate(parts.note)
    rows = finding.rows([name for section in plan.sections for name in section.names], _boxes(spec))
    return gather([Path(directory) for directory in parts.directories], rows, plan.size)


def read(spec: PrepareSpec, root: Path, scratch: Path, say: Say) -> Gathered:
    """The rows of a folder, in one piece that is kept in `scratch`."""
    rows = _listed(root, spec)
    size = _size(root, rows, spec)
    looking.look(root, rows, _boxes(spec), size, scratch, say)
    return gather([scratch], rows, size)


def prepare(
    spec: PrepareSpec, images: Gathered, out: Path, about: dict[str, Any], say: Say
) -> tuple[dict[str, Any], Quality]:
    """Write all files under `out`; the description, and what the report shows besides.

    Raises InvalidInput where too much is bad, or rows that belong together would stand in two splits.
    """
    ledger, total = Ledger(out), len(images.rows)
    ledger.read = total
    ledger.bad(images.bad)
    ledger.check(spec.max_bad_share)
    say(0.5, "splitting", {"rows": total, "bad": len(images.bad)})
    keys = writing.keys(images.stored, spec.seed)
    duplicates = len(keys) - len(set(keys))
    if duplicates and any(isinstance(step, Deduplicate) for step in spec.clean):
        keys = _deduplicate(images, keys, ledger)
    classes = _classes(spec, images)
    splits = assigning.assign(spec, [images.rows[number] for number in images.numbers], keys)
    say(0.7, "writing")
    about = {
        **about,
        "quarantined": {"rows": sum(ledger.reasons.values()), "reasons": dict(sorted(ledger.reasons.items()))},
        "duplicates": duplicates,
        **({"removed": dict(sorted(ledger.removed.items()))} if ledger.removed else {}),
    }
    described = writing.write(out, images.stored, _beside(images, classes), splits, about)
    return described, _quality(total, images, splits)


def _boxes(spec: PrepareSpec) -> Annotations:
    assert spec.boxes is not None  # noqa: S101 - the spec was checked
    return spec.boxes


def _listed(root: Path, spec: PrepareSpec) -> list[Row]:
    if not root.is_dir():
        raise InvalidInput(
            "images with boxes come as a folder", field="source", accepted="a folder, or an archive of it"
        )
    return finding.listed(root, _boxes(spec))


def _size(root: Path, rows: Sequence[Row], spec: PrepareSpec) -> tuple[int, int]:
    """What a step asks for, or the most frequent width and height as they are: boxes of small defects need pixels."""
    if asked := image_steps.size(list(spec.clean)):
        return asked
    files = [listing.held(root, name) for row in rows for name in row.images]
    found = Counter(size for file in files if file is not None and (size := upright_size(file)))
    return found.most_common(1)[0][0] if found else (1, 1)


def _said(section: Section, spec: PrepareSpec, marks_of: parsing.Marks) -> list[str]:
    """What the one file for all says of the rows of a piece: others that are added to it change nothing."""
    found = []
    for row in finding.rows(section.names, _boxes(spec)):
        try:
            found.append(repr(marks_of(row, 0, 0)))
        except Damaged as error:
            found.append(str(error))
    return found


def _known_by(section: Section, spec: PrepareSpec, size: tuple[int, int], said: list[str]) -> str:
    """The hash of all that a piece is made of."""
    declared = spec.model_dump(mode="json", include={"task", "boxes"})
    whole = [declared, list(size), section.content, said, cutting.code()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _deduplicate(images: Gathered, keys: Sequence[bytes], ledger: Ledger) -> list[bytes]:
    """Leave out rows whose pixels stood there before; the keys of those that stay."""
    first = {key: row for row, key in reversed(list(enumerate(keys)))}
    kept = sorted(first.values())
    double = [number for row, number in enumerate(images.numbers) if first[keys[row]] != row]
    ledger.note(pl.DataFrame({"row": double, "reason": ["stood there before"] * len(double)}), "deduplicate")
    images.keep(kept)
    return [keys[row] for row in kept]


def _classes(spec: PrepareSpec, images: Gathered) -> list[str]:
    """All that the spec declares, or that there are. Raises InvalidInput where no row has a box."""
    found = {name for names in images.names for name in names}
    if not found:
        raise InvalidInput(
            f"none of {len(images.names)} rows has a box", field="boxes.file", accepted="rows with boxes"
        )
    return sorted(found | set((_boxes(spec).classes or {}).values()))


def _beside(images: Gathered, classes: list[str]) -> Beside:
    labels = [np.array([classes.index(name) for name in names], np.int32) for names in images.names]
    numbers = np.array(images.numbers, np.int64)

    def values(rows: Rows) -> list[pa.Array]:
        sides, kinds = ([of[row] for row in rows.tolist()] for of in (images.boxes, labels))
        offsets = pa.array(np.cumsum([0, *map(len, kinds)], dtype=np.int32))
        flat = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(sides).ravel()), 4)
        by_row = [pa.ListArray.from_arrays(offsets, part) for part in (flat, pa.array(np.concatenate(kinds)))]
        return [*by_row, pa.array(numbers[rows])]

    def counts(rows: Rows) -> dict[str, Any]:
        kinds = [labels[row] for row in rows.tolist()]
        return {
            "class_counts": np.bincount(np.concatenate(kinds), minlength=len(classes)).tolist(),
            "without_boxes": sum(not len(kind) for kind in kinds),
        }

    each = images.stored.colours
    fields = {"boxes": pa.list_(pa.list_(pa.float32(), 4)), "classes": pa.list_(pa.int32()), "id": pa.int64()}
    feature = {"images": [each] * (images.stored.shape[0] // each)}
    return Beside(fields, values, counts, feature, {"name": "boxes", "classes": classes})


def _quality(total: int, images: Gathered, splits: Sequence[str]) -> Quality:
    """Sizes and numbers of the boxes of the training split."""
    train = [boxes for boxes, split in zip(images.boxes, splits, strict=True) if split == "train"]
    every = np.concatenate(train)
    figures = {
        "boxes an image": np.array([len(boxes) for boxes in train]),
        "width of a box": every[:, 2] - every[:, 0],
        "height of a box": every[:, 3] - every[:, 1],
    }
    return Quality(total, [Column(name, 0.0, histogram(values)) for name, values in figures.items()])
