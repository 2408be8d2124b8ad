"""Writing a dataset version: Arrow files that can be memory-mapped, and their description."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sextant_data_prep.domain.quarantine import Quarantine
from sextant_data_prep.domain.samples import Samples
from sextant_data_prep.domain.splitting import SPLITS

FORMAT = 1


def write(
    out: Path, samples: Samples, classes: list[str], labels: NDArray[np.int64], splits: list[str], about: dict[str, Any]
) -> dict[str, Any]:
    """Write all files under `out`; the description, which holds the digest of schema and data."""
    described: dict[str, Any] = {}
    digest = hashlib.sha256()
    assigned = np.array(splits)
    for split in SPLITS:
        rows = np.flatnonzero(assigned == split)
        name = f"{split}-00000.arrow"
        _write_arrow(out / name, _table(samples, labels, rows))
        digest.update((out / name).read_bytes())
        counts = np.bincount(labels[rows], minlength=len(classes)).tolist()
        described[split] = {"rows": len(rows), "files": [name], "class_counts": counts}
    features = [{"name": f.name, "dtype": f.dtype, "shape": list(f.shape)} for f in samples.features]
    schema = {"format": FORMAT, "features": features, "target": {"name": samples.target, "classes": classes}}
    digest.update(json.dumps(schema, sort_keys=True).encode())
    whole = {**schema, **about, "splits": described, "digest": digest.hexdigest()}
    (out / "dataset.json").write_text(json.dumps(whole, indent=1, sort_keys=True))
    note_quarantine(out, samples.quarantine)
    return whole


def note_quarantine(out: Path, quarantine: Quarantine) -> None:
    """A line for each row that was left out as bad, where there are some."""
    if quarantine.rows:
        lines = (json.dumps({"row": row, "reason": reason}) + "\n" for row, reason in quarantine.rows)
        (out / "quarantine.jsonl").write_text("".join(lines))


def _table(samples: Samples, labels: NDArray[np.int64], rows: NDArray[np.int64]) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for feature in samples.features:
        column = samples.columns[feature.name]
        if feature.dtype == "string":
            columns[feature.name] = pa.array([column[i] for i in rows], pa.string())
        elif feature.shape:
            flat = pa.array(np.ascontiguousarray(column[rows]).reshape(-1))
            columns[feature.name] = pa.FixedSizeListArray.from_arrays(flat, math.prod(feature.shape))
        else:
            columns[feature.name] = pa.array(column[rows])
    return pa.table({**columns, "label": labels[rows], "id": samples.ids[rows]})


def _write_arrow(path: Path, table: pa.Table) -> None:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
