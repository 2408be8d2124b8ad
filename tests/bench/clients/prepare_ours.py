"""A `prepare` job's work without the platform around it. `python -m tests.bench.clients.prepare_ours KIND FILE OUT`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from sextant_data_prep import rows, sources
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


def peak_mb() -> float:
    """The largest resident size of this process. `ru_maxrss` would count what its parent held when it forked."""
    words = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
    return int(words[0]) / 1024


def main(kind: str, path: Path, out: Path) -> None:
    """Print seconds, the peak of resident memory, and the rows that are left."""
    text = "text" if kind == "text" else None
    given = {"source": "upload://u", "task": TASKS[kind], "target": "label", "text": text, "clean": STEPS[kind]}
    (out / "out").mkdir()
    began = time.perf_counter()
    spec, source = PrepareSpec.model_validate(given), sources.of(path, TASKS[kind])
    made = rows.prepare(spec, source, out / "out", out / "scratch", {}, lambda *_: None).described
    seconds = time.perf_counter() - began
    left = sum(split["rows"] for split in made["splits"].values())
    json.dump({"seconds": seconds, "peak_mb": peak_mb(), "rows": left}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
