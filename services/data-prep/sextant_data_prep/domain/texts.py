"""Which texts the platform can store: PostgreSQL and UTF-8 take no NUL and no half of a surrogate pair."""

from __future__ import annotations


def is_storable(text: str) -> bool:
    """Whether a text can become a class name, a column's name or a value in a report."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
