"""Pictures for reports, as SVG that stands alone: bars beside names, and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sextant_data_prep.domain.quality import Histogram

COLOURS = ("#2f6f9f", "#e0a030", "#6b9e5a", "#b04a4a", "#8a6fb0")
NAME, BAR, ROW = 180, 420, 22
Bar = tuple[str, Sequence[float], str]
"""A name, the lengths of its parts, and what is written behind it."""


def bars(rows: Sequence[Bar], label: str) -> str:
    """A bar a row, all on one scale; the parts of a bar in colours."""
    most = max((sum(parts) for _, parts, _ in rows), default=0) or 1.0
    out = []
    for number, (name, parts, note) in enumerate(rows):
        y, x = ROW * number, float(NAME)
        out.append(f'<text x="{NAME - 8}" y="{y + 15}" text-anchor="end">{escape(_short(name))}</text>')
        for part, colour in zip(parts, COLOURS, strict=False):
            width = BAR * part / most
            out.append(f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 6}" fill="{colour}"/>')
            x += width
        out.append(f'<text x="{x + 6:.1f}" y="{y + 15}">{escape(note)}</text>')
    return _svg(NAME + BAR + 140, ROW * len(rows), "".join(out), label)


def columns(shape: Histogram, label: str) -> str:
    """A histogram with the ends of its range below."""
    width, height = 240, 70
    most, step = max(shape.counts) or 1, width / len(shape.counts)
    out = []
    for number, count in enumerate(shape.counts):
        tall = height * count / most
        x, y = number * step, height - tall
        out.append(f'<rect x="{x:.1f}" y="{y:.1f}" width="{step - 1:.1f}" height="{tall:.1f}" fill="{COLOURS[0]}"/>')
    out.append(f'<text x="0" y="{height + 14}">{shape.low:.4g}</text>')
    out.append(f'<text x="{width}" y="{height + 14}" text-anchor="end">{shape.high:.4g}</text>')
    return _svg(width, height + 18, "".join(out), label)


def _svg(width: float, height: float, inside: str, label: str) -> str:
    return f'<svg role="img" aria-label="{escape(label)}" width="{width:g}" height="{height:g}">{inside}</svg>'


def _short(name: str) -> str:
    return name if len(name) <= 26 else name[:25] + "…"
