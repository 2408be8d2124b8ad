"""`python load_sparse.py DIRECTORY STEPS`: batches in shuffled order from a mapped set, and what stays in memory.

One line of JSON: rows and bytes of the set, rows of batches a second, the process's largest resident memory in MB, and
how many of the planted rows were found where they were asked for.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np

from sextant_parallel import GlobalOrder
from sextant_trainer.training.tasks.mapped import Files, Mapped

BATCH = 256


def main(directory: Path, steps: int) -> None:
    """Print the line."""
    paths = sorted(directory.glob("*.arrow"))
    began = time.perf_counter()
    files = Files(paths)
    images, labels = Mapped(files, "image", (3, 32, 32)), Mapped(files, "label")
    opened = time.perf_counter() - began
    order = GlobalOrder(len(images), BATCH, 0)
    began = time.perf_counter()
    for step in range(steps):
        rows = order.batch_at(step)
        images[rows].astype(np.float32)
        labels[rows]
    taken = time.perf_counter() - began
    planted = np.array(json.loads((directory / "planted.json").read_text()), np.int64)
    marks = images[planted].reshape(len(planted), -1)[:, :8].copy().view(np.int64)[:, 0]
    status = Path("/proc/self/status").read_text().splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    found = {
        "rows": len(images),
        "bytes": sum(path.stat().st_size for path in paths),
        "open_s": opened,
        "samples_per_second": steps * BATCH / taken,
        "resident_mb": peak / 1024,
        "planted": len(planted),
        "found": int((marks == planted).sum()),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
