"""Declared steps on texts, from a file to what is left, and doubles that are only nearly so."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.domain import minhash
from sextant_data_prep.ledger import REMOVED
from sextant_data_prep.readers import blocks
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]
Make = Callable[..., Workbench]
DATA = Path(os.environ.get("SEXTANT_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture
def make(make_bench: MakeBench, tmp_path: Path) -> Make:
    """Prepares JSON lines of (text, label) with these steps; the workbench with what was made."""

    def run(pairs: list[tuple[str, str]], clean: list[dict[str, Any]], **spec: Any) -> Workbench:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps({"t": text, "y": label}) + "\n" for text, label in pairs))
        bench = make_bench(path, task="text-classification", target="y", text="t", clean=clean, **spec)
        prepare(bench)
        return bench

    return run


def described(bench: Workbench) -> dict[str, Any]:
    """The description of the dataset version."""
    found: dict[str, Any] = json.loads((bench.out / "dataset.json").read_text())
    return found


def texts(bench: Workbench) -> list[str]:
    """All texts, in the order of the source."""
    found = []
    for split in described(bench)["splits"].values():
        for name in split["files"]:
            found += pa.ipc.open_file(pa.memory_map(str(bench.out / name))).read_all().to_pylist()
    return [row["text"] for row in sorted(found, key=lambda row: row["id"])]


def removed(bench: Workbench) -> list[tuple[int, str, str]]:
    """The rows that steps left out: number, step, reason."""
    lines = [json.loads(line) for line in (bench.out / REMOVED).read_text().splitlines()]
    return [(line["row"], line["step"], line["reason"]) for line in lines]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Sentences of made-up words that are not alike."""
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(2000)]
    return [" ".join(rng.choices(words, k=12)) for _ in range(count)]


def test_steps_are_gone_through_in_order_and_each_says_what_it_did(make: Make) -> None:
    pairs = [(f" good\ttext  {number} ", "ab"[number % 2]) for number in range(40)]
    pairs += [("no", "a"), ("только русский", "a"), ("mail me at x@y.org please", "b"), ("\u200b\x07", "a")]
    steps: list[dict[str, Any]] = [
        {"do": "unicode"},
        {"do": "length", "min_chars": 4},
        {"do": "script", "keep": ["latin"]},
        {"do": "mask", "kinds": ["email"]},
    ]
    bench = make(pairs, steps)
    assert texts(bench) == [f"good text {number}" for number in range(40)] + ["mail me at <EMAIL> please"]
    assert described(bench)["removed"] == {"length": 1, "script": 1, "unicode": 1}
    assert described(bench)["changed"] == {"mask": 1, "unicode": 41}
    assert sorted(removed(bench)) == [
        (41, "length", "has under 4 characters"),
        (42, "script", "under 50% of its letters are latin"),
        (44, "unicode", "nothing was left of the text"),
    ]


def test_texts_that_become_equal_by_cleaning_are_doubles(make: Make) -> None:
    pairs = [(text, "ab"[number % 2]) for number, text in enumerate(sentences(40))]
    pairs += [(f"  {pairs[3][0]} ", "b"), (pairs[4][0], "b")]
    bench = make(pairs, [{"do": "unicode"}, {"do": "deduplicate"}])
    assert removed(bench) == [
        (41, "deduplicate", "stood there before"),
        (42, "deduplicate", "stood there before, with another label"),
    ]


def test_texts_that_are_nearly_the_same_are_left_out_unless_their_labels_differ(make: Make) -> None:
    base = sentences(200)
    pairs = [(text, "ab"[number % 2]) for number, text in enumerate(base)]
    pairs += [(base[number].upper() + "!", "ab"[number % 2]) for number in range(20)]
    pairs += [(base[number] + "?", "ab"[1 - number % 2]) for number in range(20, 40)]
    bench = make(pairs, [{"do": "deduplicate", "near": 0.8}])
    assert [row for row, _, _ in removed(bench)] == list(range(201, 221))
    assert {reason for _, _, reason in removed(bench)} == {"is nearly the same as a text before"}


def test_the_estimated_similarity_is_that_of_the_shingles() -> None:
    rng = random.Random(1)
    pairs = []
    for text in sentences(300, seed=2):
        words = text.split()
        for _ in range(rng.randrange(6)):
            words[rng.randrange(len(words))] = "other"
        pairs.append((text, " ".join(words)))

    def jaccard(one: str, other: str) -> float:
        a, b = ({text[i : i + 5] for i in range(len(text) - 4)} for text in (one, other))
        return len(a & b) / len(a | b)

    exact = np.array([jaccard(*pair) for pair in pairs])
    one, other = (minhash.signatures(pl.Series(list(side))) for side in zip(*pairs, strict=True))
    errors = minhash.similarity(one, other) - exact
    # 128 bins: a standard error of 0.044 for one pair at most. That of the mean is not 300 times less, for the pairs
    # share words, and with them hashes.
    assert abs(errors.mean()) < 0.02
    assert errors.std() < 0.05


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_bands_find_the_pairs_at_the_threshold(threshold: float) -> None:
    width = minhash.rows_per_band(threshold)
    assert 1 - (1 - threshold**width) ** (minhash.BINS // width) >= minhash.CAUGHT


def test_short_and_equal_texts_have_equal_signatures() -> None:
    found = minhash.signatures(pl.Series(["a", "A", "ab", "abcdef", "abcdef"]))
    assert (found[0] == found[1]).all()
    assert (found[3] == found[4]).all()
    assert (found[0] != found[2]).mean() > 0.9


def test_the_size_of_blocks_leaves_no_trace(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(text, "ab"[number % 2]) for number, text in enumerate(sentences(150))] * 2
    steps: list[dict[str, Any]] = [{"do": "unicode"}, {"do": "deduplicate", "near": 0.9}]
    at_once = described(make(pairs, steps))
    monkeypatch.setattr(blocks, "BLOCK", 1000)
    in_blocks = described(make(pairs, steps))
    assert at_once == in_blocks
    assert at_once["removed"] == {"deduplicate": 150}


def test_documents_in_class_folders_are_texts_with_labels(make_bench: MakeBench, tmp_path: Path) -> None:
    for number, text in enumerate(sentences(30)):
        path = tmp_path / "set" / "ab"[number % 2] / f"{number:02d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    bench = make_bench(tmp_path / "set", task="text-classification", clean=[{"do": "length", "min_words": 3}])
    assert prepare(bench).outputs["rows"] == {"train": 20, "val": 4, "test": 6}
    assert described(bench)["target"] == {"name": "class", "classes": ["a", "b"]}


@pytest.mark.parametrize(
    ("pairs", "message"), [([("one", "a"), ("two", "a")], "the same label 'a'"), ([], "holds no JSON object")]
)
def test_one_class_and_no_rows_are_refused(make: Make, pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make(pairs, [])


@pytest.mark.skipif(not (DATA / "clinc150").is_dir(), reason=f"the data set clinc150 is not in {DATA}")
def test_real_questions_lose_doubles_and_keep_their_classes(make: Make) -> None:
    data = json.loads((DATA / "clinc150" / "data_full.json").read_text())
    pairs = [(text, label) for part in ("train", "val", "test") for text, label in data[part]]
    bench = make(pairs, [{"do": "unicode"}, {"do": "mask"}, {"do": "deduplicate", "near": 0.9}])
    about = described(bench)
    assert len(about["target"]["classes"]) == 150
    assert sum(split["rows"] for split in about["splits"].values()) + about["removed"]["deduplicate"] == len(pairs)
    assert 0 < about["removed"]["deduplicate"] < 0.05 * len(pairs)
