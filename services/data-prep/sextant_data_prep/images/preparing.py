"""A dataset version of images by class: in one piece, or of pieces that several workers looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from pydantic import BaseModel

from sextant_data_prep import cutting, sections
from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.quality import Quality
from sextant_data_prep.domain.samples import encode
from sextant_data_prep.images import looking, sizing, writing
from sextant_data_prep.images.gathering import Gathered, gather
from sextant_data_prep.images.writing import Beside
from sextant_data_prep.ledger import Ledger
from sextant_data_prep.sections import Section
from sextant_data_prep.writing import note_quarantine
from sextant_shared.contracts.specs import PrepareSpec
from sextant_shared.execution.workbench import Divided, Parts, Piece, Result

PACKED = 4
"""A piece is as large as its files, and no more than so many times as large in pixels."""
Say = Callable[..., None]


class Order(BaseModel):
    """What a worker is told of its piece: its images, or the last ones of its rows, and the size of all."""

    section: Section
    size: tuple[int, int]


class Plan(BaseModel):
    """What is known of the whole when it is put together."""

    paths: list[str]
    size: tuple[int, int]


def divide(spec: PrepareSpec, root: Path, least: int) -> Divided | None:
    """The pieces of a large folder; None for a small one, which is one."""
    files = sizing.listed(root)
    sizing.check_splits(root, files)
    size = sizing.size_of(files, spec)
    decoded = 3 * size[0] * size[1] // PACKED
    found = sections.cut(root, files, least, lambda path: max(cutting.size_of(path), decoded))
    if len(found) < 2:
        return None
    pieces = [
        Piece(
            digest=_known_by(section, spec, size),
            order=Order(section=section, size=size).model_dump(mode="json"),
        )
        for section in found
    ]
    plan = Plan(paths=[path for section in found for path in section.paths], size=size)
    return Divided(pieces=pieces, note=plan.model_dump(mode="json"))


def clean(
    spec: PrepareSpec, order: dict[str, Any], upload: Callable[[Sequence[str]], Path], out: Path, say: Say
) -> Result:
    """Look at the images of one piece; its directory is `out`."""
    mine = Order.model_validate(order)
    names = mine.section.names
    looking.look(upload(names), names, mine.size, spec.clean, out, say)
    return Result(outputs={"images": len(names)})


def put_together(spec: PrepareSpec, parts: Parts) -> Gathered:
    """The images of all pieces."""
    plan = Plan.model_validate(parts.note)
    return gather([Path(directory) for directory in parts.directories], plan.paths, plan.size, spec.clean)


def read(spec: PrepareSpec, root: Path, scratch: Path, say: Say) -> Gathered:
    """The images of a folder, in one piece that is kept in `scratch`."""
    files = sizing.listed(root)
    size = sizing.size_of(files, spec)
    sizing.check_splits(root, files)
    names = [str(path.relative_to(root)) for path in files]
    looking.look(root, names, size, spec.clean, scratch, say)
    return gather([scratch], names, size, spec.clean)


def prepare(
    spec: PrepareSpec, images: Gathered, out: Path, about: dict[str, Any], say: Say
) -> tuple[dict[str, Any], Quality]:
    """Write all files under `out`; the description, and what the report shows besides.

    Raises InvalidInput where too much is bad, or there is too little for three splits.
    """
    images.quarantine.check(images.total, spec.max_bad_share)
    classes, labels = encode(images.labels)
    say(0.5, "splitting", {"rows": images.total, "bad": len(images.quarantine.rows)})
    keys, ids = writing.keys(images.stored, spec.seed), np.array(images.numbers, np.int64)
    if images.splits is None:
        splits = splitting.assign(keys, labels.tolist(), spec.split.val, spec.split.test)
    else:
        splits = splitting.as_given(keys, labels.tolist(), images.numbers, images.splits, spec.split.val)
    splitting.insist_on_all(splits, given=images.splits is not None)
    say(0.7, "writing")
    about = {
        **about,
        "quarantined": {"rows": len(images.quarantine.rows), "reasons": images.quarantine.reasons},
        "duplicates": len(keys) - len(set(keys)),
    }
    if spec.clean:
        about |= {"removed": _note_removed(out, images), "flagged": dict(sorted(images.flagged.items()))}
    note_quarantine(out, images.quarantine)
    beside = Beside(
        fields={"label": pa.int64(), "id": pa.int64()},
        values=lambda rows: [pa.array(labels[rows]), pa.array(ids[rows])],
        counts=lambda rows: {"class_counts": np.bincount(labels[rows], minlength=len(classes)).tolist()},
        feature={},
        target={"name": "class", "classes": classes},
    )
    return writing.write(out, images.stored, beside, splits, about), Quality(images.total)


def _note_removed(out: Path, images: Gathered) -> dict[str, int]:
    ledger = Ledger(out)
    for row, step, reason in images.removed:
        ledger.note(pl.DataFrame({"row": [row], "reason": [reason]}), step)
    return dict(sorted(ledger.removed.items()))


def _known_by(section: Section, spec: PrepareSpec, size: tuple[int, int]) -> str:
    """The hash of all that a piece is made of."""
    declared = spec.model_dump(mode="json", include={"task", "clean"})
    whole = [declared, list(size), section.content, cutting.code()]
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
