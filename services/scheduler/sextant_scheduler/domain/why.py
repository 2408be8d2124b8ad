"""Why a job does not run at this moment: each reason with what would change it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sextant_scheduler.domain.placement import Node, nearest_that_fits
from sextant_shared.contracts.views import Reason
from sextant_shared.lifecycle.machine import GANG_KINDS
from sextant_shared.lifecycle.states import State


@dataclass(frozen=True, slots=True)
class Situation:
    """What bears on a job's waiting."""

    state: State
    kind: str
    ranks: int
    least: int
    now: datetime
    run_after: datetime
    lease_owner: str | None
    lease_until: datetime | None
    error: dict[str, Any] | None
    paused_parent: UUID | None
    unmet: list[tuple[str, UUID, str]]
    """Steps that this one waits for: name, job, state."""
    ahead: list[UUID]
    """Queued jobs of the same kind that go first."""
    running: list[UUID]
    """Jobs of the same kind that hold workers or slots."""
    nodes: list[Node]
    """Live trainer nodes."""


def explain(s: Situation) -> list[Reason]:
    """All reasons, the strongest first."""
    return list(_reasons(s))


def _reasons(s: Situation) -> Iterator[Reason]:
    match s.state:
        case State.BLOCKED:
            for step, job_id, state in s.unmet:
                yield Reason(
                    rule="inputs",
                    message=f"waits for step {step!r}, which is {state}",
                    remedy=f"starts when step {step!r} has succeeded",
                    jobs=[job_id],
                )
        case State.QUEUED if s.kind in GANG_KINDS:
            yield from _waits_for_slots(s)
        case State.QUEUED:
            yield from _waits_for_worker(s)
        case State.RETRY_WAIT:
            wait = max(0.0, (s.run_after - s.now).total_seconds())
            cause = (s.error or {}).get("message", "an error")
            yield Reason(
                rule="backoff", message=f"is tried again in {wait:.1f} s after: {cause}", remedy="wait, or cancel it"
            )
        case State.RESERVED:
            yield Reason(rule="start", message=f"has its slots on {s.lease_owner} and is being started there")
        case State.PAUSED:
            yield Reason(rule="paused", message="is paused", remedy="resume it")
        case State.PAUSING | State.CANCELLING:
            yield Reason(rule="stopping", message=f"was asked to stop; {s.lease_owner or 'its steps'} is stopping it")
        case State.RUNNING:
            holder = f"on {s.lease_owner}" if s.lease_owner else "as a controller of its steps"
            yield Reason(rule="running", message=f"runs {holder}")
        case State.QUARANTINED:
            cause = (s.error or {}).get("message", "repeated failures")
            yield Reason(
                rule="quarantine", message=f"was taken out after: {cause}", remedy="fix the cause, then retry it"
            )
        case _:
            yield Reason(rule="ended", message=f"has ended as {s.state}")
    if s.paused_parent:
        yield Reason(
            rule="parent-paused", message="its pipeline is paused", remedy="resume the pipeline", jobs=[s.paused_parent]
        )


def _waits_for_slots(s: Situation) -> Iterator[Reason]:
    if not s.nodes:
        yield Reason(rule="no-node", message="no trainer node is alive", remedy="start a trainer agent")
        return
    nearest = nearest_that_fits(s.least, (node.slots for node in s.nodes))
    one = s.ranks <= max(node.slots for node in s.nodes)
    free = (max if one else sum)(node.free for node in s.nodes)
    if nearest is not None:
        yield Reason(
            rule="too-wide",
            message=f"needs {s.least} slots; the live nodes have {nearest} together",
            remedy=f"ask for {nearest} ranks or fewer, or add nodes with {s.least - nearest} slots",
        )
    elif s.ahead:
        yield Reason(
            rule="order",
            message=f"{len(s.ahead)} queued train jobs go first",
            remedy="wait for them, or give this one a higher priority",
            jobs=s.ahead,
        )
    elif s.least > free:
        where = "on one node" if one else "on all nodes together"
        yield Reason(
            rule="slots",
            message=f"needs {s.least} free slots {where}; the most free is {free}",
            remedy="starts when these jobs release their slots",
            jobs=s.running,
        )
    else:
        yield Reason(rule="placing", message="is being placed at this moment")


def _waits_for_worker(s: Situation) -> Iterator[Reason]:
    if s.ahead:
        yield Reason(
            rule="order",
            message=f"{len(s.ahead)} queued {s.kind} jobs go first",
            remedy="wait for them, or give this one a higher priority",
            jobs=s.ahead,
        )
    if s.running:
        yield Reason(
            rule="busy",
            message=f"the {s.kind} workers run other jobs",
            remedy="starts when one of these ends",
            jobs=s.running,
        )
    if not s.ahead and not s.running:
        yield Reason(
            rule="no-worker",
            message=f"no worker for {s.kind} jobs has taken it yet",
            remedy=f"see that a worker for {s.kind} jobs is up (sextant status)",
        )
