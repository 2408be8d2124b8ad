"""Writing images with boxes: Arrow files that can be memory-mapped, and their description."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sextant_data_prep.boxes.pixels import Stack
from sextant_data_prep.domain.pixel_moments import PixelMoments
from sextant_data_prep.domain.splitting import SPLITS
from sextant_data_prep.writing import FORMAT

BATCH_BYTES = 32 << 20
"""Of pixels in a record batch, about."""
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Content:
    """Rows to be written, by number in the source (the stack has their pixels); boxes (n, 4) and classes (n,)."""

    stack: Stack
    numbers: Rows
    boxes: Sequence[NDArray[np.float32]]
    labels: Sequence[NDArray[np.int32]]


def write(
    out: Path, content: Content, classes: list[str], splits: Sequence[str], about: dict[str, Any]
) -> dict[str, Any]:
    """Write all files under `out`; the description, which holds the digest of schema and data."""
    digest, moments, described = hashlib.sha256(), PixelMoments(), dict[str, Any]()
    assigned = np.array(splits)
    for split in SPLITS:
        rows = np.flatnonzero(assigned == split)
        name = f"{split}-00000.arrow"
        _write(out / name, content, rows, moments if split == "train" else None)
        with (out / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
        labels = np.concatenate([content.labels[row] for row in rows.tolist()])
        described[split] = {
            "rows": len(rows),
            "files": [name],
            "class_counts": np.bincount(labels, minlength=len(classes)).tolist(),
            "without_boxes": sum(not len(content.labels[row]) for row in rows.tolist()),
        }
    shape, each = list(content.stack.shape), content.stack.each
    image = {"name": "image", "dtype": "uint8", "shape": shape, "images": [each] * (shape[0] // each)}
    schema = {"format": FORMAT, "features": [image], "target": {"name": "boxes", "classes": classes}}
    digest.update(json.dumps(schema, sort_keys=True).encode())
    statistics = {"image": moments.figures()}
    whole = {**schema, **about, "statistics": statistics, "splits": described, "digest": digest.hexdigest()}
    (out / "dataset.json").write_text(json.dumps(whole, indent=1, sort_keys=True))
    return whole


def _write(path: Path, content: Content, rows: Rows, moments: PixelMoments | None) -> None:
    size = math.prod(content.stack.shape)
    schema = pa.schema(
        {
            "image": pa.list_(pa.uint8(), size),
            "boxes": pa.list_(pa.list_(pa.float32(), 4)),
            "classes": pa.list_(pa.int32()),
            "id": pa.int64(),
        }
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for part in _parts(rows, max(1, BATCH_BYTES // size)):
            numbers = content.numbers[part]
            pixels = content.stack.kept[numbers]
            if moments is not None:
                moments.add(pixels)
            boxes, labels = ([of[row] for row in part.tolist()] for of in (content.boxes, content.labels))
            offsets = pa.array(np.cumsum([0, *map(len, labels)], dtype=np.int32))
            sides = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(boxes).ravel()), 4)
            columns = [
                pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), size),
                pa.ListArray.from_arrays(offsets, sides),
                pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(labels))),
                pa.array(numbers),
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _parts(rows: Rows, size: int) -> Iterator[Rows]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
