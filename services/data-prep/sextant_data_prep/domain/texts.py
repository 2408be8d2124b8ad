"""Which texts the platform can store: PostgreSQL takes no NUL, and UTF-8 no half of a surrogate pair."""

from __future__ import annotations


def fault(text: str) -> str | None:
    """Why a text cannot become a class name, a column's name or a value; None where it can.

    Bytes that were no UTF-8 stand in a text as halves of surrogate pairs: see the error handler "surrogateescape".
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    return "holds NUL" if "\0" in text else None
