"""What the agent reads: gangs that were placed on its node."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection, select

from sextant_shared.lifecycle.states import State
from sextant_shared.store import tables as t


def reserved_for(conn: Connection, node: str) -> list[tuple[UUID, int]]:
    """Jobs and epochs that wait for this node to start them."""
    query = select(t.jobs.c.id, t.jobs.c.epoch).where(t.jobs.c.state == State.RESERVED, t.jobs.c.lease_owner == node)
    return [(row.id, row.epoch) for row in conn.execute(query)]
