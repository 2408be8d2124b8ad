"""Identifiers: UUID version 7 (RFC 9562), so that the order of ids is the order of time and indices grow at one end."""

from __future__ import annotations

import secrets
import time
from uuid import UUID


def new_id() -> UUID:
    """A new identifier: 48 bits of Unix milliseconds, 12 of the fraction of one, then 62 random bits.

    The fraction (RFC 9562, 6.2, method 3) keeps the order of ids that one process makes within a millisecond.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | fraction << 64 | 0b10 << 62
    return UUID(int=value | secrets.randbits(62))
