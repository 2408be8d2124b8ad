"""Which waiting gang gets which node: strict order, best fit, no overtaking."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Waiting:
    """A gang that waits for slots."""

    job_id: UUID
    ranks: int


@dataclass(frozen=True, slots=True)
class Free:
    """A live node and its free slots."""

    node: str
    slots: int


@dataclass(frozen=True, slots=True)
class Placed:
    """All ranks of a gang go to one node."""

    job_id: UUID
    node: str
    ranks: int


def place(waiting: Iterable[Waiting], nodes: Iterable[Free]) -> list[Placed]:
    """Place gangs in the order given; the first that does not fit stops those behind it, so that none starves.

    A gang goes to the node with the fewest free slots that hold it, which leaves the widest room for the next.
    """
    free = {node.node: node.slots for node in nodes}
    placed: list[Placed] = []
    for gang in waiting:
        fitting = sorted((slots, node) for node, slots in free.items() if slots >= gang.ranks)
        if not fitting:
            break
        node = fitting[0][1]
        free[node] -= gang.ranks
        placed.append(Placed(gang.job_id, node, gang.ranks))
    return placed


def nearest_that_fits(ranks: int, slots_by_node: Iterable[int]) -> int | None:
    """None where some node can hold `ranks`, or no node is known; else the most ranks that a node can hold."""
    widest = max(slots_by_node, default=0)
    return None if widest == 0 or ranks <= widest else widest
