"""Writing images: Arrow files that can be memory-mapped, batch by batch, and their description."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sextant_data_prep.domain import splitting
from sextant_data_prep.domain.pixel_moments import PixelMoments
from sextant_data_prep.domain.splitting import SPLITS
from sextant_data_prep.images.stored import Stored
from sextant_data_prep.writing import FORMAT

BATCH_BYTES = 32 << 20
"""Of pixels in a record batch, about."""
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the pixels: columns, their values for some rows, and what is told of all rows of a split."""

    fields: dict[str, pa.DataType]
    values: Callable[[Rows], list[pa.Array]]
    counts: Callable[[Rows], dict[str, Any]]
    feature: dict[str, Any]
    """Of the images, more than their name, type and shape."""
    target: dict[str, Any]


def keys(images: Stored, seed: int) -> list[bytes]:
    """Hashes of the pixels of each row, by which equal ones go to one split."""
    found: list[bytes] = []
    for rows in _parts(np.arange(len(images)), images.shape):
        found += [splitting.content_key(one.tobytes(), seed) for one in images.pixels(rows.tolist())]
    return found


def write(out: Path, images: Stored, beside: Beside, splits: Sequence[str], about: dict[str, Any]) -> dict[str, Any]:
    """Write all files under `out`; the description, which holds the digest of schema and data."""
    digest, moments, described = hashlib.sha256(), PixelMoments(), dict[str, Any]()
    assigned = np.array(splits)
    for split in SPLITS:
        rows = np.flatnonzero(assigned == split)
        name = f"{split}-00000.arrow"
        _write(out / name, images, beside, rows, moments if split == "train" else None)
        with (out / name).open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
        described[split] = {"rows": len(rows), "files": [name], **beside.counts(rows)}
    feature = {"name": "image", "dtype": "uint8", "shape": list(images.shape), **beside.feature}
    schema = {"format": FORMAT, "features": [feature], "target": beside.target}
    digest.update(json.dumps(schema, sort_keys=True).encode())
    statistics = {"image": {**moments.figures(), **moments.range()}}
    whole = {**schema, **about, "statistics": statistics, "splits": described, "digest": digest.hexdigest()}
    (out / "dataset.json").write_text(json.dumps(whole, indent=1, sort_keys=True))
    return whole


def _write(path: Path, images: Stored, beside: Beside, rows: Rows, moments: PixelMoments | None) -> None:
    size = math.prod(images.shape)
    schema = pa.schema({"image": pa.list_(pa.uint8(), size), **beside.fields})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for part in _parts(rows, images.shape):
            pixels = images.pixels(part.tolist())
            if moments is not None:
                moments.add(pixels)
            flat = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), size)
            writer.write_batch(pa.record_batch([flat, *beside.values(part)], schema=schema))


def _parts(rows: Rows, shape: tuple[int, ...]) -> Iterator[Rows]:
    at_once = max(1, BATCH_BYTES // math.prod(shape))
    for start in range(0, len(rows), at_once):
        yield rows[start : start + at_once]
