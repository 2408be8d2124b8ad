"""A `prepare` job's work without the platform around it. `python -m tests.bench.clients.prepare_ours KIND FILE OUT`."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from sextant_data_prep import rows
from sextant_shared.contracts.specs import PrepareSpec

STEPS: dict[str, list[dict[str, Any]]] = {
    "text": [
        {"do": "unicode"},
        {"do": "length", "min_chars": 10, "max_words": 100},
        {"do": "mask", "kinds": ["email", "ip"]},
        {"do": "deduplicate"},
    ],
    "table": [{"do": "missing", "policy": "mean"}, {"do": "deduplicate"}],
}
TASKS = {"text": "text-classification", "table": "tabular"}


def main(kind: str, path: Path, out: Path) -> None:
    """Print seconds, the peak of resident memory, and the rows that are left."""
    text = "text" if kind == "text" else None
    given = {"source": "upload://u", "task": TASKS[kind], "target": "label", "text": text, "clean": STEPS[kind]}
    (out / "out").mkdir()
    began = time.perf_counter()
    made = rows.prepare(
        PrepareSpec.model_validate(given), path, out / "out", out / "scratch", {}, lambda *_: None
    ).described
    seconds = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    left = sum(split["rows"] for split in made["splits"].values())
    json.dump({"seconds": seconds, "peak_mb": peak_mb, "rows": left}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
