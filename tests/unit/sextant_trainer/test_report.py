"""The report of a train job: what it says of a model, whatever the task, and that the page stands alone."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from sextant_trainer.training import report
from sextant_trainer.training.study import MOST_ROWS, WORST, Seen, Study, Worst, confusion_of, look, words
from sextant_trainer.training.tasks.picture import png

ABOUT: dict[str, Any] = {
    "task": "image-classification",
    "architecture": {"zoo": "resnet18", "config": {"width": 8, "stem": None}},
    "pretrained": {"source": "package://weights", "sha256": "0", "adapt": "head"},
    "temperature": 1.25,
    "input": {"name": "input", "shape": [3, 8, 8], "dtype": "uint8"},
    "classes": ["cat", "dog"],
    "dataset": {"id": "d", "name": "pets", "version": 3, "digest": "abcdef0123456789abcdef"},
    "metrics": {"val_accuracy": 0.912345},
    "hyperparameters": {"epochs": 2, "learning_rate": 0.001},
}
CURVE = [
    {"epoch": 1.0, "train_loss": 2.0, "val_loss": 1.5, "val_accuracy": 0.5},
    {"epoch": 2.0, "train_loss": 1.0, "val_loss": 1.25, "val_accuracy": 0.912345},
]
WORST_ROWS = [
    Worst(17, 3.25, said="dog", truth="cat", image=png(np.zeros((3, 4, 4), np.uint8))),
    Worst(18, 2.5, text="load", curves={"came": [(0.0, 1.0), (1.0, 2.0)], "forecast": [(0.0, 1.5), (1.0, 1.0)]}),
]
STUDY = Study(10, 12, ["cat", "dog"], [[3, 2], [1, 4]], WORST_ROWS, [0.5, 0.75])
CARD = report.card(ABOUT, 12_345, 345, "data 2")


class Page(HTMLParser):
    """Tags, texts and addresses of a page."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_says_what_the_model_is_and_how_it_came_to_be() -> None:
    page = Page(report.as_page(CARD, CURVE, STUDY))
    said = " ".join(page.words)
    for text in (
        *(
            "resnet18 on pets@3: training report",
            "resnet18",
            "12,345, of which 345 were trained",
            "pets@3, digest abcdef0123456789",
        ),
        *("package://weights", "data 2", "1.25", "0.9123", "learning_rate", "torch", torch.__version__),
        *("10 of 12 rows", "row 17: dog, is cat (loss 3.25)", "row 18 (loss 2.5)"),
    ):
        assert text in said
    # Losses, accuracy, steps and the forecast as curves, and the matrix.
    assert page.tags.count("svg") == 5
    assert page.tags.count("polyline") == 2 + 1 + 1 + 2


def test_the_page_asks_nothing_of_any_server() -> None:
    content = report.as_page(CARD, CURVE, STUDY)
    page = Page(content)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.tags)
    assert len(page.links) == 1
    assert page.links[0].startswith("data:image/png;base64,")
    assert "http" not in content


def test_names_and_texts_cannot_become_markup() -> None:
    nasty = "<script>alert(1)</script>"
    about = {**CARD, "dataset": {**CARD["dataset"], "name": nasty}, "plan": nasty}
    worst = [Worst(1, 1.0, said=nasty, truth=nasty, text=nasty, image=f'"{nasty}')]
    for classes in (2, 40):
        names = [f"{nasty}{number}" for number in range(classes)]
        counts = [[1] * classes for _ in range(classes)]
        page = Page(report.as_page(about, CURVE, Study(10, 12, names, counts, worst)))
        assert "script" not in page.tags


def test_of_many_classes_the_pairs_that_are_confused_most_are_listed() -> None:
    names = [f"class {number}" for number in range(150)]
    counts = np.eye(150, dtype=int) * 9
    counts[3, 7], counts[7, 3] = 5, 2
    page = Page(report.as_page(CARD, [], Study(10, 12, names, counts.tolist())))
    at = page.words.index("class 3")
    assert page.words[at : at + 6] == ["class 3", "class 7", "5", "class 7", "class 3", "2"]
    assert "rect" not in page.tags


def test_the_data_hold_what_the_page_shows_but_for_the_pictures() -> None:
    found = json.loads(report.as_json(CARD, CURVE, STUDY))
    assert found["card"] == CARD
    assert found["curve"] == CURVE
    assert found["validation"]["confusion"] == [[3, 2], [1, 4]]
    assert found["validation"]["worst"][0] == {"row": 17, "loss": 3.25, "said": "dog", "truth": "cat", "text": ""}
    assert set(found["card"]["versions"]) >= {"python", "torch", "sextant-platform"}


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")
def test_a_browser_shows_the_page_without_an_error(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(report.as_page(CARD, CURVE, STUDY), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    command = ["chromium", *flags, (tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "0.9123" in done.stdout
    assert "</polyline>" in done.stdout
    assert "CONSOLE" not in done.stderr


class Rows:
    """A task of `count` rows, whose inputs are their numbers."""

    def __init__(self, count: int) -> None:
        self.count = count

    def rows(self, split: str) -> int:
        assert split == "val"
        return self.count

    def batch(self, split: str, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        values = torch.from_numpy(rows)
        return values.float()[:, None], values


@pytest.mark.parametrize(("count", "budget_s", "seen"), [(100, 60.0, 100), (9000, 60.0, MOST_ROWS), (9000, 0.0, 64)])
def test_rows_are_looked_at_until_there_are_enough_or_the_time_is_over(count: int, budget_s: float, seen: int) -> None:
    found = look(Rows(count), nn.Identity(), 3, budget_s)
    assert len(set(found.rows.tolist())) == seen
    assert found.outputs[:, 0].tolist() == found.rows.tolist() == found.targets.tolist()
    # The first ones are a sample of all, not the beginning.
    assert found.rows.mean() == pytest.approx(count / 2, rel=0.3)


def test_the_worst_rows_come_first_and_what_is_no_number_is_worst() -> None:
    losses = torch.tensor([0.5, torch.nan, 2.0, *([0.1] * 20)])
    seen = Seen(np.arange(100, 123), losses[:, None], losses)
    assert [row for _, row, _ in seen.worst(losses)][:3] == [101, 102, 100]
    assert len(seen.worst(losses)) == WORST


def test_the_matrix_counts_rows_by_what_they_are_and_what_was_said() -> None:
    outputs = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert confusion_of(Seen(np.arange(3), outputs, torch.tensor([0, 0, 1])), 2) == [[1, 1], [0, 1]]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_become_pictures_that_can_be_seen(channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (channels, 8, 6), dtype=np.uint8)
    with Image.open(io.BytesIO(base64.b64decode(png(pixels).partition(",")[2]))) as image:
        assert image.size == (6 * 12, 8 * 12)
        assert image.mode == ("RGB" if channels == 3 else "L")
        corner = image.getpixel((0, 0))
    assert corner == (tuple(pixels[:, 0, 0].tolist()) if channels == 3 else pixels[0, 0, 0])


def test_columns_are_told_in_one_line() -> None:
    assert words({"age": 39.0, "job": "clerk"}) == "age: 39, job: clerk"
    assert words({str(n): n for n in range(20)}).endswith("15: 15, ...")
