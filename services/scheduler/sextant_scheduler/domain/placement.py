"""Which waiting gang gets which nodes: strict order, best fit, no overtaking; over several nodes only where it must."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Waiting:
    """A gang that waits for slots: as many as `ranks`, and no fewer than `least`."""

    job_id: UUID
    ranks: int
    least: int


@dataclass(frozen=True, slots=True)
class Node:
    """A live node, and how many of its slots are free."""

    name: str
    slots: int
    free: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Ranks of a gang by node, the node with rank 0 first."""

    job_id: UUID
    shares: dict[str, int]


def place(waiting: Iterable[Waiting], nodes: Iterable[Node]) -> list[Placed]:
    """Place gangs in the order given; the first that does not fit stops those behind it, so that none starves."""
    left = {node.name: node for node in nodes}
    placed: list[Placed] = []
    for gang in waiting:
        shares = share_out(gang.ranks, gang.least, list(left.values()))
        if not shares:
            break
        for name, ranks in shares.items():
            left[name] = replace(left[name], free=left[name].free - ranks)
        placed.append(Placed(gang.job_id, shares))
    return placed


def share_out(ranks: int, least: int, nodes: Sequence[Node]) -> dict[str, int]:
    """Ranks by node for a gang that wants `ranks` and takes `least`; empty where it has to wait.

    A gang that a node could hold waits for one: links between nodes are slow. It goes to the node with the fewest free
    slots that hold it, which leaves the widest room for the next. A wider one takes the fewest nodes.
    """
    if ranks <= max((node.slots for node in nodes), default=0):
        most_free = max(node.free for node in nodes)
        return _narrowest(min(ranks, most_free), nodes) if most_free >= least else {}
    total = min(ranks, sum(node.free for node in nodes))
    return _fewest(total, nodes) if total >= least else {}


def _narrowest(ranks: int, nodes: Sequence[Node]) -> dict[str, int]:
    fitting = min((node for node in nodes if node.free >= ranks), key=lambda node: (node.free, node.name))
    return {fitting.name: ranks}


def _fewest(ranks: int, nodes: Sequence[Node]) -> dict[str, int]:
    shares: dict[str, int] = {}
    for node in sorted(nodes, key=lambda node: (-node.free, node.name)):
        taken = min(node.free, ranks - sum(shares.values()))
        if taken:
            shares[node.name] = taken
    return shares


def nearest_that_fits(least: int, slots_by_node: Iterable[int]) -> int | None:
    """None where the nodes together can hold `least` ranks, or no node is known; else the most that they can hold."""
    total = sum(slots_by_node)
    return None if total == 0 or least <= total else total
