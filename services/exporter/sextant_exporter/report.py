"""An evaluation as a page that stands alone: figures, and the confusion matrix as a picture."""

from __future__ import annotations

from html import escape

from sextant_exporter.domain.metrics import Report
from sextant_shared.pictures import matrix

STYLE = (
    "body{font:15px system-ui;margin:2rem;color:#222}td,th{padding:.3rem .8rem;text-align:right}"
    "svg text{font:12px system-ui}"
)


def render(report: Report, classes: list[str], title: str, latency: dict[str, float]) -> str:
    """The page as HTML."""
    figures = {**report.figures(), **{f"latency {name} (ms)": value for name, value in latency.items()}}
    below = (
        "<h2>Confusion matrix</h2><p>Rows: the true class. Columns: what the model said. Shade: share of the row.</p>"
        f"{matrix(classes, report.confusion)}"
    )
    return page(title, figures, below)


def page(title: str, figures: dict[str, float], below: str) -> str:
    """A title, a table of figures, and what stands below them, in HTML already."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{value:.4g}</td></tr>" for name, value in figures.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{escape(title)}</h1><table>{rows}</table>{below}</html>"
    )
