"""The messages on the bus and their subjects. A new optional field keeps the version; anything else is a new version.

Messages are notifications: a consumer takes one as a hint to look into the store, so that a lost, doubled or late one
costs time and nothing else.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from sextant_shared.contracts.base import Received

WAKE = "wake.scheduler"
"""Core NATS, empty or a `Wake`: something was committed that the scheduler may want to act on."""

SUMMONED = "gangs.summoned"
"""Core NATS, empty: a gang waits for nodes to join it."""

JOB_EVENTS = "jobs.>"
MEMBERSHIP = "membership.node.v1"


class JobEvent(Received):
    """`jobs.<kind>.<state>.v1`: one audited change of a job."""

    type: Literal["job.state.v1"]
    event_id: str
    occurred_at: datetime
    correlation_id: UUID
    job_id: UUID
    root_id: UUID
    parent_id: UUID | None
    tenant: str
    kind: str
    name: str
    step: str | None = None
    seq: int
    event: str
    from_state: str | None
    state: str
    fence: int
    attempt: int


class NodeAlive(Received):
    """`membership.node.v1`: a trainer node tells that it lives and what it has."""

    type: Literal["node.alive.v1"] = "node.alive.v1"
    name: str
    instance: str
    slots: int = Field(ge=1, le=65_536)
    draining: bool = False
    info: dict[str, str] = {}


class Wake(Received):
    """`wake.scheduler`: what was just committed, as far as its sender says."""

    type: Literal["wake.v1"] = "wake.v1"
    queued: list[tuple[UUID, str]] = []
    """Jobs that wait for a worker, and their kinds: their workers can be woken before anyone looks into the store."""


def live_subject(root_id: UUID | str, job_id: UUID | str, what: Literal["progress", "log"]) -> str:
    """Where a running job's progress and log go."""
    return f"live.{root_id}.{job_id}.{what}"
