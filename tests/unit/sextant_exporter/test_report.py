"""The evaluation's page, read as a browser reads it."""

from __future__ import annotations

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sextant_exporter.domain.metrics import Report
from sextant_exporter.report import render

REPORT = Report(
    accuracy=0.912345,
    macro_f1=0.9,
    log_loss=0.25,
    recall=[0.5, 1.0],
    confusion=[[3, 3], [0, 4]],
    calibration_error=0.08,
)
LATENCY = {"p50": 1.5, "p99": 4.25}


class Elements(HTMLParser):
    """Counts elements and keeps the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """One more of its kind."""
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        """Text between elements."""
        self.words.append(data)


def test_the_page_holds_every_figure_and_every_cell_of_the_matrix() -> None:
    page = Elements(render(REPORT, ["cat", "dog"], "pets, test split", LATENCY))
    assert page.tags.count("rect") == 4
    assert page.tags.count("tr") == 6
    for text in ("pets, test split", "0.9123", "0.25", "latency p99 (ms)", "4.25", "cat", "dog", "3", "4"):
        assert text in page.words
    assert "0" not in page.words  # an empty cell has no number


def test_the_page_asks_nothing_of_any_server() -> None:
    page = render(REPORT, ["cat", "dog"], "pets", LATENCY)
    assert not {"script", "link", "img", "iframe"} & set(Elements(page).tags)
    assert "http" not in page


def test_names_cannot_become_markup() -> None:
    nasty = "<script>alert(1)</script>"
    page = render(REPORT, [nasty, "&amp;"], nasty, LATENCY)
    assert "script" not in Elements(page).tags
    assert "&amp;" in Elements(page).words


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")
def test_a_browser_shows_the_page_without_an_error(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text(render(REPORT, ["cat", "dog"], "pets", LATENCY))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--dump-dom"]
    command = ["chromium", *flags, (tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "0.9123" in done.stdout
    assert "<svg" in done.stdout
    assert "</table>" in done.stdout
    assert "CONSOLE" not in done.stderr
