"""The cleaning of `scripts/bench prepare` by hand, with polars alone. `python prepare_polars.py KIND FILE OUT`."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path

import polars as pl

TARGET = "label"
EMAIL = r"[A-Za-z0-9._+%-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+"
ADDRESS = r"\b(?:\d{1,3}\.){3}\d{1,3}\b"


def texts(path: Path) -> tuple[pl.DataFrame, list[str]]:
    """Unicode, lengths, masking and doubles, by the streaming engine, which is the faster one here."""
    text = pl.col("text").str.normalize("NFC").str.replace_all(r"[\p{Cc}\u{FEFF}\u{200B}&&[^\s]]", "")
    text = text.str.replace_all(r"\s+", " ").str.strip_chars()
    frame = (
        pl.scan_ndjson(path)
        .select(text, TARGET)
        .filter(pl.col("text").str.len_chars() >= 10, pl.col("text").str.count_matches(r"\S+") <= 100)
        .with_columns(pl.col("text").str.replace_all(EMAIL, "<EMAIL>").str.replace_all(ADDRESS, "<IP>"))
        .with_row_index("id")
        .unique(subset="text", keep="first", maintain_order=True)
        .collect(engine="streaming")
    )
    return frame, ["text"]


def table(path: Path) -> tuple[pl.DataFrame, list[str]]:
    """Types, missing labels and doubles; the rest needs the splits."""
    frame = pl.read_csv(path)
    names = [name for name in frame.columns if name != TARGET]
    numbers = [name for name in names if frame[name].dtype.is_numeric()]
    frame = frame.with_row_index("id").with_columns(pl.col(numbers).cast(pl.Float32))
    frame = frame.filter(pl.col(TARGET).is_not_null(), *(pl.col(n).is_finite() | pl.col(n).is_null() for n in numbers))
    return frame.unique(subset=names, keep="first", maintain_order=True), names


def finished(frame: pl.DataFrame, names: list[str], out: Path) -> int:
    """Exact shares of each class by a hash, means of the training split, one column a category, files."""
    frame = frame.with_columns(pl.struct(names).hash(0).rank("ordinal").over(TARGET).alias("place"))
    share = (pl.col("place") - 1) / pl.len().over(TARGET)
    frame = frame.with_columns(pl.when(share < 0.2).then(2).when(share < 0.3).then(1).otherwise(0).alias("split"))
    numbers = [name for name in names if frame[name].dtype == pl.Float32]
    if numbers:
        means = frame.filter(pl.col("split") == 0).select(pl.col(numbers).mean()).row(0, named=True)
        frame = frame.with_columns(pl.col(name).fill_null(mean) for name, mean in means.items())
    words = [name for name in names if name not in numbers and name != "text"]
    classes = {name: number for number, name in enumerate(sorted(frame[TARGET].unique()))}
    frame = frame.with_columns(pl.col(TARGET).replace_strict(classes, return_dtype=pl.Int64)).drop("place")
    frame = frame.to_dummies(words).with_columns(pl.col(pl.UInt8).cast(pl.Float32)) if words else frame
    for number, split in enumerate(("train", "val", "test")):
        part = frame.filter(pl.col("split") == number).drop("split")
        part.write_ipc(out / f"{split}.arrow", compression="uncompressed")
        hashlib.sha256((out / f"{split}.arrow").read_bytes()).hexdigest()
        if not number and numbers:
            found = pl.col(pl.Float32)
            part.select(found.mean().name.suffix("=mean"), found.std().name.suffix("=std"))
            part.select(found.min().name.suffix("=min"), found.max().name.suffix("=max"))
    return len(frame)


def peak_mb() -> float:
    """The largest resident size of this process. `ru_maxrss` would count what its parent held when it forked."""
    words = Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()
    return int(words[0]) / 1024


def main(kind: str, path: Path, out: Path) -> None:
    """Print seconds, the peak of resident memory, and the rows that are left."""
    began = time.perf_counter()
    rows = finished(*(texts if kind == "text" else table)(path), out)
    seconds = time.perf_counter() - began
    json.dump({"seconds": seconds, "peak_mb": peak_mb(), "rows": rows}, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
