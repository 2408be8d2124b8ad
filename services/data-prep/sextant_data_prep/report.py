"""The quality report of a prepared dataset: one page that stands alone, without scripts or anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any

from sextant_data_prep.charts import COLOURS, Bar, bars, columns
from sextant_data_prep.domain.quality import Column, Quality, warnings

NAME = "report.html"
STYLE = (
    "body{font:15px system-ui;margin:2rem auto;max-width:60rem;color:#222}h2{margin-top:2rem}"
    "svg text{font:12px system-ui}figure{display:inline-block;margin:.6rem 1.2rem .6rem 0}"
    "figcaption{font-weight:600;max-width:240px;overflow-wrap:anywhere}.warn{color:#a03030}"
    ".key span{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}"
)
MOST = 40
"""Columns and classes that are shown; the description has all."""


def render(described: dict[str, Any], quality: Quality) -> str:
    """The page as HTML."""
    title = "Data quality"
    parts = [f"<h1>{escape(title)}</h1>", _summary(described, quality), *_warnings(described, quality)]
    parts += [*_flow(described, quality), *_classes(described), *_columns(quality.columns)]
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        f"{''.join(parts)}</html>"
    )


def _summary(described: dict[str, Any], quality: Quality) -> str:
    rows = ", ".join(f"{name} {info['rows']:,}" for name, info in described["splits"].items())
    return (
        f"<p>Task {escape(described['task'])}, seed {described['seed']}. "
        f"{quality.read:,} rows read; {rows}. {described['duplicates']:,} rows stood there before. "
        f"Digest {described['digest'][:16]}…</p>"
    )


def _warnings(described: dict[str, Any], quality: Quality) -> Iterator[str]:
    found = warnings(quality, described)
    if found:
        items = "".join(f"<li>{escape(text)}</li>" for text in found[:MOST])
        yield f'<h2>Look at this</h2><ul class="warn">{items}</ul>'


def _flow(described: dict[str, Any], quality: Quality) -> Iterator[str]:
    reasons, removed = described["quarantined"]["reasons"], described.get("removed", {})
    kept = sum(info["rows"] for info in described["splits"].values())
    rows: list[Bar] = [("read", [quality.read], f"{quality.read:,}")]
    rows += [(f"step {step}", [0, 0, 0, count], f"− {count:,}") for step, count in removed.items()]
    rows += [(f"bad: {why}", [0, 0, 0, 0, count], f"− {count:,}") for why, count in list(reasons.items())[:MOST]]
    rows.append(("kept", [info["rows"] for info in described["splits"].values()], f"{kept:,}"))
    yield "<h2>What each step left out</h2>" + _key("train", "val", "test", "left out by a step", "bad")
    yield bars(rows, "rows read, left out and kept")
    changed = described.get("changed", {})
    if changed:
        yield "<p>Changed: " + ", ".join(f"{escape(step)} {count:,} rows" for step, count in changed.items()) + ".</p>"


def _classes(described: dict[str, Any]) -> Iterator[str]:
    names, splits = described["target"]["classes"], described["splits"].values()
    if not names:
        return
    counts = [[info["class_counts"][number] for info in splits] for number in range(len(names))]
    ranked = sorted(zip(names, counts, strict=True), key=lambda pair: (-sum(pair[1]), pair[0]))
    rows: list[Bar] = [(name, parts, f"{sum(parts):,}") for name, parts in ranked[:MOST]]
    yield f"<h2>Classes</h2><p>{_first(len(names))}of {len(names)} by rows.</p>"
    yield _key("train", "val", "test") + bars(rows, "rows of each class")


def _columns(found: list[Column]) -> Iterator[str]:
    missing = sorted((column for column in found if column.missing), key=lambda column: -column.missing)
    if missing:
        rows: list[Bar] = [(column.name, [column.missing], f"{column.missing:.1%}") for column in missing[:MOST]]
        yield "<h2>Missing values</h2>" + bars(rows, "share of missing values by column")
    if found:
        yield "<h2>Distributions</h2><p>Numbers and lengths: evenly spaced rows of the training split.</p>"
    for column in found[:MOST]:
        caption = f"<figcaption>{escape(column.name[:80])}</figcaption>"
        if column.histogram:
            yield f"<figure>{caption}{columns(column.histogram, f'distribution of {column.name[:80]}')}</figure>"
        elif column.categories:
            rows = [(name or "(missing)", [count], f"{count:,}") for name, count in column.categories]
            yield f"<div>{caption}{bars(rows, f'values of {column.name[:80]}')}</div>"


def _key(*names: str) -> str:
    entries = (f'<span style="background:{c}"></span>{escape(n)}' for n, c in zip(names, COLOURS, strict=False))
    return f'<p class="key">{"".join(entries)}</p>'


def _first(total: int) -> str:
    return f"The first {MOST} " if total > MOST else "All "
