"""Pictures for reports, as SVG that stands alone: curves, and matrices of counts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = ("#2f6f9f", "#e0a030", "#6b9e5a", "#b04a4a", "#8a6fb0")
CELL, MARGIN = 36, 90
WIDTH, HEIGHT, LEFT, BELOW = 440, 180, 64, 22


def curves(series: Mapping[str, Sequence[tuple[float, float]]], label: str) -> str:
    """Up to five curves through (x, y) on one scale, with the ends of both beside; what is no number is left out."""
    points = {name: [p for p in of if math.isfinite(p[0]) and math.isfinite(p[1])] for name, of in series.items()}
    every = [point for of in points.values() for point in of]
    if not every:
        return ""
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*every, strict=True))
    wide, tall = (right - left) or 1.0, (high - low) or 1.0
    parts = [f'<rect x="{LEFT}" y="4" width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#ccc"/>']
    for (name, of), colour in zip(points.items(), COLOURS, strict=False):
        at = (f"{LEFT + WIDTH * (x - left) / wide:.1f},{4 + HEIGHT * (high - y) / tall:.1f}" for x, y in of)
        line = f'<polyline points="{" ".join(at)}" fill="none" stroke="{colour}" stroke-width="2">'
        parts.append(f"{line}<title>{escape(name)}</title></polyline>")
    for y, value in ((14, high), (4 + HEIGHT, low)):
        parts.append(f'<text x="{LEFT - 6}" y="{y}" text-anchor="end">{value:.4g}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT + 18}">{left:.4g}</text>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="{HEIGHT + 18}" text-anchor="end">{right:.4g}</text>')
    return _svg(LEFT + WIDTH + 8, HEIGHT + BELOW, parts, label)


def key(names: Sequence[str]) -> str:
    """What the colours of `curves` are, in HTML."""
    square = "display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em"
    entries = (
        f'<span style="{square};background:{colour}"></span>{escape(name)}'
        for name, colour in zip(names, COLOURS, strict=False)
    )
    return f"<p>{''.join(entries)}</p>"


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]], label: str = "confusion matrix") -> str:
    """A square of counts; the shade is the share of the row."""
    side = MARGIN + CELL * len(names)
    parts = []
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        at = MARGIN + CELL * i
        short = escape(name[:12])
        parts.append(f'<text x="{MARGIN - 8}" y="{at + 23}" text-anchor="end">{short}</text>')
        parts.append(f'<text transform="translate({at + 22},{MARGIN - 8}) rotate(-60)">{short}</text>')
        total = max(1, sum(row))
        for j, count in enumerate(row):
            parts.append(_cell(count, count / total, MARGIN + CELL * j, at))
    return _svg(side, side, parts, label)


def _cell(count: int, shade: float, x: int, y: int) -> str:
    colour = f"rgb({round(255 - 215 * shade)},{round(255 - 145 * shade)},{round(255 - 75 * shade)})"
    cell = f'<rect x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill="{colour}" stroke="#ddd"/>'
    if not count:
        return cell
    ink = "#fff" if shade > 0.5 else "#222"
    return f'{cell}<text x="{x + CELL / 2}" y="{y + 23}" text-anchor="middle" fill="{ink}">{count}</text>'


def _svg(width: int, height: int, parts: Sequence[str], label: str) -> str:
    size = f'width="{width}" height="{height}"'
    return f'<svg role="img" aria-label="{escape(label)}" {size}>{"".join(parts)}</svg>'
