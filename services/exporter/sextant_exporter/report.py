"""An evaluation as a page that stands alone: figures, and the confusion matrix as a picture."""

from __future__ import annotations

from html import escape

from sextant_exporter.domain.metrics import Report

CELL = 36
MARGIN = 90
STYLE = (
    "body{font:15px system-ui;margin:2rem;color:#222}td,th{padding:.3rem .8rem;text-align:right}"
    "svg text{font:12px system-ui}"
)


def render(report: Report, classes: list[str], title: str, latency: dict[str, float]) -> str:
    """The page as HTML."""
    figures = {**report.figures(), **{f"latency {name} (ms)": value for name, value in latency.items()}}
    below = (
        "<h2>Confusion matrix</h2><p>Rows: the true class. Columns: what the model said. Shade: share of the row.</p>"
        f"{_matrix(report, classes)}"
    )
    return page(title, figures, below)


def page(title: str, figures: dict[str, float], below: str) -> str:
    """A title, a table of figures, and what stands below them, in HTML already."""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{value:.4g}</td></tr>" for name, value in figures.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{escape(title)}</h1><table>{rows}</table>{below}</html>"
    )


def _matrix(report: Report, classes: list[str]) -> str:
    side = MARGIN + CELL * len(classes)
    parts = [f'<svg role="img" aria-label="confusion matrix" width="{side}" height="{side}">']
    for i, (name, row) in enumerate(zip(classes, report.confusion, strict=True)):
        at = MARGIN + CELL * i
        short = escape(name[:12])
        parts.append(f'<text x="{MARGIN - 8}" y="{at + 23}" text-anchor="end">{short}</text>')
        parts.append(f'<text transform="translate({at + 22},{MARGIN - 8}) rotate(-60)">{short}</text>')
        total = max(1, sum(row))
        for j, count in enumerate(row):
            shade = count / total
            colour = f"rgb({round(255 - 215 * shade)},{round(255 - 145 * shade)},{round(255 - 75 * shade)})"
            x = MARGIN + CELL * j
            parts.append(f'<rect x="{x}" y="{at}" width="{CELL}" height="{CELL}" fill="{colour}" stroke="#ddd"/>')
            if count:
                ink = "#fff" if shade > 0.5 else "#222"
                parts.append(f'<text x="{x + CELL / 2}" y="{at + 23}" text-anchor="middle" fill="{ink}">{count}</text>')
    return "".join(parts) + "</svg>"
