"""Writing images by class: Arrow files that can be memory-mapped, batch by batch, and their description."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sextant_data_prep.domain.pixel_moments import PixelMoments
from sextant_data_prep.domain.splitting import SPLITS
from sextant_data_prep.images.gathering import Gathered
from sextant_data_prep.writing import FORMAT, note_quarantine

BATCH_BYTES = 32 << 20
"""Of pixels in a record batch, about."""


def write(
    out: Path,
    images: Gathered,
    classes: list[str],
    labels: NDArray[np.int64],
    splits: Sequence[str],
    about: dict[str, Any],
) -> dict[str, Any]:
    """Write all files under `out`; the description, which holds the digest of schema and data."""
    digest, moments, described = hashlib.sha256(), PixelMoments(), dict[str, Any]()
    assigned = np.array(splits)
    for split in SPLITS:
        rows = np.flatnonzero(assigned == split)
        name = f"{split}-00000.arrow"
        _write(out / name, images, labels, rows, moments if split == "train" else None)
        with (out / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
        counts = np.bincount(labels[rows], minlength=len(classes)).tolist()
        described[split] = {"rows": len(rows), "files": [name], "class_counts": counts}
    feature = {"name": "image", "dtype": "uint8", "shape": list(images.shape)}
    schema = {"format": FORMAT, "features": [feature], "target": {"name": "class", "classes": classes}}
    digest.update(json.dumps(schema, sort_keys=True).encode())
    statistics = {"image": {**moments.figures(), **moments.range()}}
    whole = {**schema, **about, "statistics": statistics, "splits": described, "digest": digest.hexdigest()}
    (out / "dataset.json").write_text(json.dumps(whole, indent=1, sort_keys=True))
    note_quarantine(out, images.quarantine)
    return whole


def _write(
    path: Path, images: Gathered, labels: NDArray[np.int64], rows: NDArray[np.int64], moments: PixelMoments | None
) -> None:
    size, ids = math.prod(images.shape), images.ids
    schema = pa.schema({"image": pa.list_(pa.uint8(), size), "label": pa.int64(), "id": pa.int64()})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        at_once = max(1, BATCH_BYTES // size)
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            pixels = images.pixels(part.tolist())
            if moments is not None:
                moments.add(pixels)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), size)
            writer.write_batch(pa.record_batch([flat, pa.array(labels[part]), pa.array(ids[part])], schema=schema))
