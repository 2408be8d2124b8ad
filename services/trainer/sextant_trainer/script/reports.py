"""What a script reports: JSON lines on a descriptor. Nothing in a line is trusted."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

MAX_LINE = 64 << 10
MAX_METRICS = 256
MAX_MESSAGE = 500
MAX_NAME = 64


class BadReport(ValueError):
    """A line that says nothing; the message tells why."""


@dataclass(frozen=True, slots=True)
class Report:
    """One line, as far as it says something."""

    progress: float | None = None
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    checkpoint: str | None = None
    """The name of a directory below the one for checkpoints."""
    step: int = 0


def parse(line: bytes) -> Report:
    """Raises BadReport."""
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        raise BadReport("is no JSON") from None
    if not isinstance(content, dict):
        raise BadReport("is no JSON object")
    if unknown := sorted(set(content) - {"progress", "message", "metrics", "checkpoint", "step"}):
        raise BadReport(f"has the unknown key {unknown[0][:80]!r}")
    return Report(
        _progress(content.get("progress")),
        printable(str(content.get("message", "")), MAX_MESSAGE),
        _metrics(content.get("metrics", {})),
        _name(content.get("checkpoint")),
        _step(content.get("step", 0)),
    )


def printable(text: str, most: int) -> str:
    """On one line, without what would steer a terminal."""
    return "".join(c if c.isprintable() else " " for c in text[: 4 * most]).strip()[:most]


def _progress(value: Any) -> float | None:
    if value is None:
        return None
    if not _is_number(value) or not 0 <= value <= 1:
        raise BadReport("has a progress that is no number from 0 to 1")
    return float(value)


def _metrics(value: Any) -> dict[str, float]:
    if not isinstance(value, dict) or len(value) > MAX_METRICS:
        raise BadReport(f"has metrics that are no object of at most {MAX_METRICS} numbers")
    for name, number in value.items():
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise BadReport(f"has a metric whose name is not 1 to {MAX_NAME} printable characters")
        if not _is_number(number):
            raise BadReport(f"has the metric {name!r}, which is no finite number")
    return {name: float(number) for name, number in value.items()}


def _is_number(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def _name(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value.replace("-", "a").replace("_", "a").replace(".", "a").isalnum():
        raise BadReport("has a checkpoint that is no name of letters, digits, '.', '-' and '_'")
    if value.startswith(".") or len(value) > MAX_NAME:
        raise BadReport(f"has a checkpoint whose name begins with a dot, or has over {MAX_NAME} characters")
    return value


def _step(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise BadReport("has a step that is no whole number from 0")
    return value
