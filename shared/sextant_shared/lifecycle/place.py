"""Which ranks of a gang a node runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """One node's part of a gang; work of any other kind is one rank alone."""

    ranks: int = 1
    first: int = 0
    """The number of the first of these ranks."""
    world: int = 1
    """Ranks of the whole gang."""
    nodes: int = 1
    meeting: str | None = None
    """HOST:PORT where the ranks of several nodes meet; None on the node that has rank 0, which opens it."""
