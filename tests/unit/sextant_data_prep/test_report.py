"""The quality report: one page that stands alone and shows what there is."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.sextant_data_prep.pieces import prepare

from sextant_data_prep.domain.quality import Column, Histogram, Quality, histogram, warnings
from sextant_shared.execution.workbench import Workbench

MakeBench = Callable[..., Workbench]
VOID = {"meta", "br", "rect"}


class Page(HTMLParser):
    """The texts and pictures of a page whose elements are all closed."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(given[name]) for name in ("src", "href", "xlink:href") if name in given]
        if tag == "svg":
            self.pictures.append(str(given["aria-label"]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def page(bench: Workbench) -> Page:
    """The report that a job made."""
    prepare(bench)
    return Page((bench.out / "report.html").read_text())


def described(**more: Any) -> dict[str, Any]:
    """A description of two classes."""
    splits = {name: {"rows": 10, "class_counts": [5, 5]} for name in ("train", "val", "test")}
    return {"target": {"classes": ["a", "b"]}, "splits": splits, **more}


def test_a_table_shows_what_was_left_out_what_is_missing_and_how_values_lie(
    make_bench: MakeBench, tmp_path: Path
) -> None:
    lines = ["x,<b>&,y", *(f"{'' if n % 4 == 0 else n},{'red' if n % 3 else 'blue'},{'ab'[n % 2]}" for n in range(80))]
    (tmp_path / "data.csv").write_text("\n".join([*lines, "1,2", "1,red,b"]) + "\n")
    steps = [{"do": "missing", "policy": "mean"}, {"do": "deduplicate"}]
    found = page(make_bench(tmp_path / "data.csv", task="tabular", target="y", clean=steps, max_bad_share=0.1))
    assert found.pictures == [
        "rows read, left out and kept",
        "rows of each class",
        "share of missing values by column",
        "distribution of x",
        "values of <b>&",
    ]
    words = "".join(found.words)
    assert "bad: does not have 3 colu…" in words
    assert "step deduplicate" in words
    assert "24.7%" in words  # 20 of the 81 rows with as many fields as columns
    assert "<b>&" in found.words
    assert found.links == []
    assert found.open == []


def test_texts_and_images_have_reports_too(make_bench: MakeBench, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("t,y\n" + "".join(f"text {'x' * n},{'ab'[n % 2]}\n" for n in range(60)))
    texts = page(make_bench(tmp_path / "data.csv", task="text-classification", target="y", text="t"))
    assert texts.pictures[-1] == "distribution of characters of the text"
    images = page(make_bench(source="package://sklearn/digits", task="image-classification"))
    assert images.pictures == ["rows read, left out and kept", "rows of each class"]


def test_the_same_source_has_the_same_report(make_bench: MakeBench, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("x,c,y\n" + "".join(f"{n},{'pq'[n % 2]},{'ab'[n % 2]}\n" for n in range(60)))
    benches = [make_bench(tmp_path / "data.csv", task="tabular", target="y") for _ in range(2)]
    for bench in benches:
        prepare(bench)
    one, other = ((bench.out / "report.html").read_bytes() for bench in benches)
    assert one == other


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (Column("x", 0.6, Histogram(0, 1, [1, 1])), ["x: 60% of the values are missing"]),
        (Column("x", 0.0, Histogram(2, 2, [9])), ["x: all values are the same"]),
        (Column("c", 0.0, None, [("only", 9)]), ["c: all values are the same"]),
        (Column("c", 0.5, None, [("only", 9)]), []),
        (Column("x", 0.1, Histogram(0, 1, [1, 1])), []),
    ],
)
def test_columns_that_say_little_are_warned_of(column: Column, said: list[str]) -> None:
    assert warnings(Quality(10, [column]), described()) == said


def test_classes_that_are_rare_or_absent_and_leaks_are_warned_of() -> None:
    about = described(leaks=[{"column": "code", "reason": "determines the target"}])
    about["splits"]["train"]["class_counts"] = [210, 10]
    about["splits"]["val"]["class_counts"] = [7, 0]
    assert warnings(Quality(10), about) == [
        "1 classes have no row in val: b",
        "the largest class has 21 times the rows of the smallest",
        "code determines the target: a model that sees it learns nothing else",
    ]


def test_a_histogram_counts_all_finite_values() -> None:
    found = histogram(np.array([1.0, 2.0, 2.0, np.nan, np.inf]))
    assert found is not None
    assert (found.low, found.high, sum(found.counts)) == (1.0, 2.0, 3)
    assert histogram(np.array([np.nan])) is None
    same = histogram(np.array([5.0, 5.0]))
    assert same == Histogram(5.0, 5.0, [2])
