"""Made-up files for `scripts/bench prepare`: the same for the same kind and number of rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

CHUNK = 500_000
WORDS = 5000


def write(kind: str, home: Path, rows: int) -> Path:
    """A file of texts, of a table, or of a narrow table, written in chunks."""
    make, suffix = {"text": (_texts, "jsonl"), "table": (_table, "csv"), "narrow": (_narrow, "csv")}[kind]
    path = home / f"{kind}.{suffix}"
    rng = np.random.default_rng(0)
    with path.open("wb") as out:
        for first in range(0, rows, CHUNK):
            frame = make(rng, min(CHUNK, rows - first))
            if suffix == "csv":
                frame.write_csv(out, include_header=first == 0)
            else:
                frame.write_ndjson(out)
    return path


def _texts(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    """Twelve words each; one in 20 with an e-mail address, one in 50 badly spelled, one in 100 a double."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(rng.choice(letters, rng.integers(2, 10))) for _ in range(WORDS)])
    frame = pl.DataFrame({f"w{place}": words[rng.integers(0, WORDS, rows)] for place in range(12)})
    number = pl.int_range(rows)
    text = pl.concat_str(pl.all(), separator=" ")
    text = pl.when(number % 20 == 0).then(text + " mail " + pl.col("w0") + "@example.org").otherwise(text)
    text = pl.when(number % 50 == 1).then("  Cafe\u0301 \t" + text).otherwise(text)
    text = pl.when(number % 100 == 99).then(text.shift(1)).otherwise(text)
    return frame.select(text.alias("text"), pl.Series("label", np.array(list("abcd"))[rng.integers(0, 4, rows)]))


def _table(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    """Seven numbers with missing ones among them, two columns of words, two classes; one row in 100 is a double."""
    frame = pl.DataFrame({f"x{place}": rng.normal(size=rows).round(4) for place in range(6)})
    frame = frame.with_columns(
        pl.when(pl.int_range(rows) % 50 > 0).then(pl.col("x1")).alias("x1"),
        pl.Series("count", rng.integers(0, 1000, rows)),
        pl.Series("colour", np.array(["red", "green", "blue", "grey"])[rng.integers(0, 4, rows)]),
        pl.Series("shape", np.array([f"shape{number}" for number in range(12)])[rng.integers(0, 12, rows)]),
        pl.Series("label", np.where(frame["x0"].to_numpy() > 0, "yes", "no")),
    )
    return frame.select(pl.when(pl.int_range(rows) % 100 == 99).then(pl.all().shift(1)).otherwise(pl.all()))


def _narrow(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    """Two numbers, a word, two classes."""
    first = rng.normal(size=rows).round(5)
    return pl.DataFrame(
        {
            "x": first,
            "n": rng.integers(0, 100_000, rows),
            "c": np.array(["a", "b", "c"])[rng.integers(0, 3, rows)],
            "label": np.where(first > 0, "yes", "no"),
        }
    )
