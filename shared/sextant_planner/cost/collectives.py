"""The time of collectives over groups of neighbouring or strided ranks.

Measured tables go first: piecewise linear in the bytes. Without one, the standard ring: an all-reduce over n ranks
moves 2(n-1)/n of the data through each of them (Patarasuk and Yuan, 2009), at the nearest link that reaches them all.
A group with several members within reach of a nearer link works there first; each then goes across with its part.
"""

from __future__ import annotations

from sextant_planner.cluster import Cluster, Collective, Link
from sextant_planner.model import interpolate

ROUNDS = {Collective.ALL_REDUCE: 2, Collective.ALL_GATHER: 1, Collective.REDUCE_SCATTER: 1}


def collective_s(cluster: Cluster, kind: Collective, count: float, size: int, stride: int) -> float:
    """`kind` over `size` ranks that lie `stride` apart; `count` is the bytes of the whole tensor on one rank."""
    if size <= 1 or count <= 0:
        return 0.0
    far = cluster.link(min(size * stride, cluster.size))
    table = far.tables.get(f"{kind}/{size}")
    if table is not None:
        return interpolate(table, count)
    local = _members_within_nearer_link(cluster, far, size, stride)
    total = 0.0
    if local > 1:
        near = cluster.link(local * stride)
        total += _ring_s(near, kind, count, local)
    return total + _ring_s(far, kind, count / local, size // local)


def send_s(cluster: Cluster, count: float, stride: int) -> float:
    """One tensor of `count` bytes from a rank to the one `stride` further."""
    link = cluster.link(min(2 * stride, cluster.size))
    table = link.tables.get(f"{Collective.SEND}/2")
    if table is not None:
        return interpolate(table, count)
    return link.latency_s + count / (link.bandwidth * link.efficiency)


def _ring_s(link: Link, kind: Collective, count: float, size: int) -> float:
    if size <= 1:
        return 0.0
    moved = ROUNDS[kind] * (size - 1) / size * count
    return link.latency_s + moved / (link.bandwidth * link.efficiency)


def _members_within_nearer_link(cluster: Cluster, far: Link, size: int, stride: int) -> int:
    nearer = [link for link in cluster.links if link.size < far.size]
    local = max((link.size // stride for link in nearer), default=1)
    return max(1, min(local, size)) if size % max(1, local) == 0 else 1
