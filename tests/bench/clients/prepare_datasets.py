"""The cleaning of `scripts/bench prepare` with Hugging Face `datasets`, as its guides have it: by `map` and `filter`.

Its splits are not stratified and its labels not encoded: both go row by row there, and would take most of the time.
Runs in an environment of its own: `python prepare_datasets.py KIND FILE OUT`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
from datasets import disable_progress_bars, load_dataset

TARGET = "label"
EMAIL = re.compile(r"[A-Za-z0-9._+%-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+")
ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufeff\u200b]")
SPACE = re.compile(r"\s+")
BATCH = 10_000
PROCESSES = os.cpu_count()


def clean(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Unicode and masking."""
    texts = (SPACE.sub(" ", CONTROL.sub("", unicodedata.normalize("NFC", text))).strip() for text in batch["text"])
    return {"text": [ADDRESS.sub("<IP>", EMAIL.sub("<EMAIL>", text)) for text in texts]}


def fits(batch: dict[str, list[Any]]) -> list[bool]:
    """Lengths."""
    return [len(text) >= 10 and len(text.split()) <= 100 for text in batch["text"]]


class First:
    """Whether rows stand there for the first time."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.seen: set[int] = set()

    def __call__(self, batch: dict[str, list[Any]]) -> list[bool]:
        found = []
        for row in zip(*(batch[name] for name in self.names), strict=True):
            key = hash(row)
            found.append(key not in self.seen)
            self.seen.add(key)
        return found


def encoder(means: dict[str, float], values: dict[str, list[str]]) -> Any:
    """Fills numbers and makes one column a category."""

    def encode(batch: dict[str, list[Any]]) -> dict[str, list[float]]:
        made = {name: [mean if v is None else v for v in batch[name]] for name, mean in means.items()}
        for name, known in values.items():
            made |= {f"{name}={value}": [float(v == value) for v in batch[name]] for value in known}
        return made

    return encode


def peak_mb() -> float:
    """The largest resident size of this process, without those that it starts. `ru_maxrss` would count its parent's."""
    words = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
    return int(words[0]) / 1024


def main(kind: str, path: Path, out: Path) -> None:
    """Print seconds, the peak of resident memory, and the rows that are left."""
    disable_progress_bars()
    began = time.perf_counter()
    form = "json" if kind == "text" else "csv"
    data = load_dataset(form, data_files=str(path), split="train", cache_dir=str(out / "cache"))
    options = {"batched": True, "batch_size": BATCH}
    if kind == "text":
        data = data.map(clean, num_proc=PROCESSES, **options).filter(fits, num_proc=PROCESSES, **options)
        data = data.filter(First(["text"]), **options)
        parts = data.train_test_split(0.3, seed=0)
    else:
        names = [name for name in data.column_names if name != TARGET]
        numbers = [name for name in names if "string" not in data.features[name].dtype]
        data = data.filter(First(names), **options)
        parts = data.train_test_split(0.3, seed=0)
        train = parts["train"].with_format("pandas")[:]
        values = {name: sorted(train[name].unique()) for name in names if name not in numbers}
        means = {name: float(train[name].mean()) for name in numbers}
        parts = parts.map(encoder(means, values), num_proc=PROCESSES, remove_columns=list(values), **options)
    parts.save_to_disk(str(out / "made"))
    seconds = time.perf_counter() - began
    rows = sum(part.num_rows for part in parts.values())
    json.dump({"seconds": seconds, "peak_mb": peak_mb(), "rows": rows}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
