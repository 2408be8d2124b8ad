"""Draws a choice as SVG: where the time of a step goes for each of the best plans, and the memory of the chosen one."""

from __future__ import annotations

from html import escape

from sextant_planner.cost.memory import Memory
from sextant_planner.cost.step import Breakdown
from sextant_planner.search.engine import Choice

COLOURS = ("#4269d0", "#97bbf5", "#efb118", "#ff725c", "#6cc5b0", "#9498a0", "#a463f2")
WIDTH, LEFT, BAR, GAP = 960, 20, 22, 40


def draw(choice: Choice) -> str:
    """An SVG document without scripts or outside references."""
    rows = [(c.plan.describe(), _parts(c.prediction.breakdown), c.prediction.step_s) for c in choice.candidates]
    longest = max(total for _, _, total in rows)
    body = [_text(LEFT, 28, f"{choice.model} on {choice.cluster}", size=18)]
    body.append(_text(LEFT, 52, "Seconds of a step, predicted", size=13))
    body += _legend(list(Breakdown.model_fields), 74)
    y = 96
    for label, parts, total in rows:
        body.append(_text(LEFT, y + 12, f"{label}: {total:.4g} s", size=12))
        body += _bar(parts, longest, y + 18)
        y += BAR + GAP
    memory = choice.best.prediction.memory
    body.append(_text(LEFT, y + 12, "Bytes of the fullest device; the line is its limit", size=13))
    body += _legend([name for name in Memory.model_fields if getattr(memory, name)], y + 34)
    limit = max(choice.best.prediction.memory_limit, memory.total)
    body += _bar([value for value in _values(memory) if value], limit, y + 50)
    at = LEFT + (WIDTH - 2 * LEFT) * choice.best.prediction.memory_limit / limit
    body.append(f'<line x1="{at:.1f}" y1="{y + 44}" x2="{at:.1f}" y2="{y + 78}" stroke="#222" stroke-width="2"/>')
    height = y + 100
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="white"/>{"".join(body)}</svg>\n'
    )


def _parts(breakdown: Breakdown) -> list[float]:
    return [getattr(breakdown, name) for name in Breakdown.model_fields]


def _values(memory: Memory) -> list[float]:
    return [getattr(memory, name) for name in Memory.model_fields]


def _bar(parts: list[float], longest: float, y: float) -> list[str]:
    drawn = []
    x = float(LEFT)
    for number, part in enumerate(parts):
        width = (WIDTH - 2 * LEFT) * part / longest
        if width > 0:
            colour = COLOURS[number % len(COLOURS)]
            drawn.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
        x += width
    return drawn


def _legend(names: list[str], y: float) -> list[str]:
    drawn = []
    x = LEFT
    for number, name in enumerate(names):
        drawn.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{COLOURS[number % len(COLOURS)]}"/>')
        drawn.append(_text(x + 17, y, name, size=12))
        x += 36 + 7 * len(name)
    return drawn


def _text(x: float, y: float, text: str, *, size: int) -> str:
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="#222">{escape(text)}</text>'
