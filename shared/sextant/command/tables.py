"""How values look in a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

STYLES = {
    "SUCCEEDED": "green",
    "READY": "green",
    "RUNNING": "cyan",
    "RESERVED": "cyan",
    "FAILED": "red",
    "QUARANTINED": "red",
    "CANCELLED": "yellow",
    "CANCELLING": "yellow",
    "RETRY_WAIT": "yellow",
    "PAUSING": "yellow",
    "PAUSED": "yellow",
    "SKIPPED": "dim",
    "BLOCKED": "dim",
}


def table(*columns: str) -> Table:
    """An empty table with light lines."""
    from rich.box import SIMPLE
    from rich.table import Table

    made = Table(box=SIMPLE, pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def state(value: str) -> Text:
    """A state in its colour."""
    from rich.text import Text

    return Text(value, style=STYLES.get(value.upper(), ""))


def when(value: datetime | None) -> str:
    """A time in local time, to the second."""
    return value.astimezone().strftime("%Y-%m-%d %H:%M:%S") if value else ""


def seconds(value: float) -> str:
    """A duration: 0.4 s, 12 s, 3:05, 1:02:03."""
    if value < 10:
        return f"{max(value, 0.0):.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def elapsed(start: datetime | None, end: datetime | None) -> str:
    """How long something took, or has taken so far."""
    return seconds(((end or datetime.now(UTC)) - start).total_seconds()) if start else ""


def size(value: int) -> str:
    """Bytes in binary units."""
    number, unit = float(value), "B"
    for bigger in ("KiB", "MiB", "GiB", "TiB"):
        if number < 1024:
            break
        number, unit = number / 1024, bigger
    return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"


def short(value: Any, limit: int = 60) -> str:
    """A value on one line; numbers with four digits."""
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value).replace("\n", " ")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def pairs(values: dict[str, Any], limit: int = 4) -> str:
    """The first few of named values."""
    shown = [f"{name} {short(value, 30)}" for name, value in list(values.items())[:limit] if value is not None]
    return "  ".join(shown)
