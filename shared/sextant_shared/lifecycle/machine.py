"""The rules of a job's life, pure: `step(job, event, now, rng)` says what becomes of the job, or why nothing does.

No clock, no randomness and no I/O of its own, so that the scheduler can be simulated with the code that runs. `now` is
the database's clock, the only one that decides about leases.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import singledispatch
from random import Random
from typing import Any
from uuid import UUID

from sextant_shared.contracts.specs import CONTROLLER_KINDS
from sextant_shared.lifecycle.states import State

MAX_WORKER_DEATHS = 3
MAX_BACKOFF_S = 300.0
GANG_KINDS = frozenset({"train", "script"})


@dataclass(frozen=True, slots=True)
class Job:
    """The part of a job's row that the rules look at."""

    id: UUID
    tenant: str
    kind: str
    name: str
    root_id: UUID
    parent_id: UUID | None
    step: str | None
    spec: dict[str, Any]
    inputs: dict[str, Any] | None
    state: State
    seq: int
    fence: int
    epoch: int
    attempt: int
    errors: int
    worker_deaths: int
    max_attempts: int
    backoff_s: float
    lease_owner: str | None
    lease_until: datetime | None
    run_after: datetime
    """Since when the job has been ready, or when it will be: a wait for a worker is counted from here."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker wants to run the job; a gang's agent names the epoch that was reserved for it."""

    worker: str
    lease_s: float
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Reserve:
    """The scheduler has taken slots for all ranks; the gang must start before the reservation ends."""

    shares: dict[str, int]
    """Ranks by node, the node with rank 0 first: it is the one to claim the job."""
    lease_s: float


@dataclass(frozen=True, slots=True)
class Complete:
    """The attempt with this fence has its manifest ready."""

    fence: int


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt with this fence ended with an error."""

    fence: int
    error: dict[str, Any]
    retriable: bool


@dataclass(frozen=True, slots=True)
class Died:
    """The attempt's process died without a word (killed, out of memory), and nothing of it is left."""

    fence: int
    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """The attempt stopped because it was asked to: to cancel, to pause, or because its worker drains."""

    fence: int


@dataclass(frozen=True, slots=True)
class Expire:
    """The reaper saw a lease or a reservation that ran out."""


@dataclass(frozen=True, slots=True)
class Wake:
    """The time of a retry has come."""


@dataclass(frozen=True, slots=True)
class Start:
    """A controller begins: it takes no lease."""


@dataclass(frozen=True, slots=True)
class Settle:
    """A controller ends, by what became of its children."""

    state: State
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unblock:
    """All that a step needs has been made."""

    inputs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """A step that this one needs did not succeed: FAILED or SKIPPED, as the pipeline says."""

    state: State
    reason: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Someone wants the job to end."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    """Someone wants the job to stop for a while."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Someone wants a paused job to go on."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """An operator gives a quarantined job another chance."""


Event = (
    Claim
    | Reserve
    | Complete
    | Fail
    | Died
    | Stopped
    | Expire
    | Wake
    | Start
    | Settle
    | Unblock
    | GiveUp
    | Cancel
    | Pause
    | Resume
    | Requeue
)


@dataclass(frozen=True, slots=True)
class Transition:
    """The job moves to `state`; `changes` are other columns to set, `detail` goes into the audit log."""

    state: State
    event: str
    changes: dict[str, Any] = field(default_factory=dict)
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unchanged:
    """What was asked is so already."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The event does not apply; `stale` says that the sender has lost the job to another attempt."""

    reason: str
    stale: bool = False


Decision = Transition | Unchanged | Refused

FREE: dict[str, Any] = {"lease_owner": None, "lease_until": None, "dispatched_at": None}


def step(job: Job, event: Event, now: datetime, rng: Random) -> Decision:
    """Decide what `event` does to `job` at `now`.

    Source: the lease and fencing protocol after Kleppmann, "How to do distributed locking" (2016); backoff with full
    jitter after Brooker, "Exponential Backoff And Jitter" (AWS, 2015).
    """
    return _decide(event, job, now, rng)


@singledispatch
def _decide(event: object, job: Job, now: datetime, rng: Random) -> Decision:
    raise TypeError(f"unknown event {event!r}")


@_decide.register
def _claim(event: Claim, job: Job, now: datetime, rng: Random) -> Decision:
    gang = job.kind in GANG_KINDS
    ready = job.state is (State.RESERVED if gang else State.QUEUED) and job.kind not in CONTROLLER_KINDS
    if not ready or job.run_after > now:
        return Refused(f"the job is {job.state}")
    if gang and event.epoch != job.epoch:
        return Refused(f"epoch {event.epoch} was called off; the job's epoch is {job.epoch}", stale=True)
    changes = {
        "fence": job.fence + 1,
        "attempt": job.attempt + 1,
        "lease_owner": event.worker,
        "lease_until": now + timedelta(seconds=event.lease_s),
        "progress": None,
    }
    return Transition(State.RUNNING, "claimed", changes, {"worker": event.worker})


@_decide.register
def _reserve(event: Reserve, job: Job, now: datetime, rng: Random) -> Decision:
    if job.kind not in GANG_KINDS:
        return Refused(f"a {job.kind} job takes no slots")
    if job.state is not State.QUEUED or job.run_after > now:
        return Refused(f"the job is {job.state}")
    until = now + timedelta(seconds=event.lease_s)
    leader = next(iter(event.shares))
    changes = {"epoch": job.epoch + 1, "lease_owner": leader, "lease_until": until}
    detail = {"node": leader, "epoch": job.epoch + 1, "ranks": event.shares}
    return Transition(State.RESERVED, "reserved", changes, detail)


@_decide.register
def _complete(event: Complete, job: Job, now: datetime, rng: Random) -> Decision:
    if refusal := _fenced(job, event.fence):
        return refusal
    return Transition(State.SUCCEEDED, "succeeded", FREE)


@_decide.register
def _fail(event: Fail, job: Job, now: datetime, rng: Random) -> Decision:
    if refusal := _fenced(job, event.fence):
        return refusal
    changes = {**FREE, "errors": job.errors + 1, "error": event.error}
    if job.state is State.CANCELLING:
        return Transition(State.CANCELLED, "cancelled", changes, event.error)
    if not event.retriable:
        return Transition(State.FAILED, "failed", changes, event.error)
    if job.errors + 1 >= job.max_attempts:
        return Transition(State.QUARANTINED, "quarantined", changes, event.error)
    if job.state is State.PAUSING:
        return Transition(State.PAUSED, "paused", changes, event.error)
    wait = rng.uniform(0.0, min(MAX_BACKOFF_S, job.backoff_s * 2**job.errors))
    changes["run_after"] = now + timedelta(seconds=wait)
    return Transition(State.RETRY_WAIT, "retry-scheduled", changes, {**event.error, "wait_ms": round(wait * 1000)})


@_decide.register
def _died(event: Died, job: Job, now: datetime, rng: Random) -> Decision:
    return _fenced(job, event.fence) or _lose(job, event.reason, now)


@_decide.register
def _expire(event: Expire, job: Job, now: datetime, rng: Random) -> Decision:
    if job.lease_until is None or job.lease_until > now:
        return Refused("the lease has not run out")
    if job.state is State.RESERVED:
        return Transition(State.QUEUED, "reservation-expired", FREE, {"node": job.lease_owner})
    return _lose(job, "the lease ran out", now)


def _lose(job: Job, reason: str, now: datetime) -> Decision:
    detail = {"reason": reason, "worker": job.lease_owner}
    if job.state is State.CANCELLING:
        return Transition(State.CANCELLED, "cancelled", FREE, detail)
    if not job.state.is_held:
        return Refused(f"the job is {job.state}")
    changes = {**FREE, "worker_deaths": job.worker_deaths + 1, "error": {"message": reason}}
    if job.worker_deaths + 1 >= MAX_WORKER_DEATHS:
        return Transition(State.QUARANTINED, "quarantined", changes, detail)
    if job.state is State.PAUSING:
        return Transition(State.PAUSED, "paused", changes, detail)
    return Transition(State.QUEUED, "worker-lost", {**changes, "run_after": now}, detail)


@_decide.register
def _stopped(event: Stopped, job: Job, now: datetime, rng: Random) -> Decision:
    if refusal := _fenced(job, event.fence):
        return refusal
    if job.state is State.CANCELLING:
        return Transition(State.CANCELLED, "cancelled", FREE)
    if job.state is State.PAUSING:
        return Transition(State.PAUSED, "paused", FREE)
    return Transition(State.QUEUED, "drained", {**FREE, "run_after": now}, {"worker": job.lease_owner})


@_decide.register
def _wake(event: Wake, job: Job, now: datetime, rng: Random) -> Decision:
    if job.state is not State.RETRY_WAIT or job.run_after > now:
        return Refused(f"the job is {job.state}")
    return Transition(State.QUEUED, "retried", FREE)


@_decide.register
def _start(event: Start, job: Job, now: datetime, rng: Random) -> Decision:
    if job.state is not State.QUEUED or job.kind not in CONTROLLER_KINDS:
        return Refused(f"the job is {job.state}")
    return Transition(State.RUNNING, "started")


@_decide.register
def _settle(event: Settle, job: Job, now: datetime, rng: Random) -> Decision:
    if job.kind not in CONTROLLER_KINDS or not job.state.is_held:
        return Refused(f"the job is {job.state}")
    state = State.CANCELLED if job.state is State.CANCELLING else event.state
    changes = {"error": event.detail} if state is State.FAILED else {}
    return Transition(state, state.lower(), changes, event.detail)


@_decide.register
def _unblock(event: Unblock, job: Job, now: datetime, rng: Random) -> Decision:
    if job.state is not State.BLOCKED:
        return Refused(f"the job is {job.state}")
    return Transition(State.QUEUED, "unblocked", {"inputs": event.inputs, "run_after": now}, event.inputs)


@_decide.register
def _give_up(event: GiveUp, job: Job, now: datetime, rng: Random) -> Decision:
    if job.state is not State.BLOCKED:
        return Refused(f"the job is {job.state}")
    detail = {"message": event.reason}
    return Transition(event.state, event.state.lower(), {"error": detail}, detail)


@_decide.register
def _cancel(event: Cancel, job: Job, now: datetime, rng: Random) -> Decision:
    if job.state in (State.CANCELLING, State.CANCELLED):
        return Unchanged()
    if job.state.is_terminal:
        return Refused(f"the job has ended: it is {job.state}")
    detail = {"reason": event.reason} if event.reason else {}
    # A controller that waits may have children that have begun: it ends when they have.
    may_have_children = job.kind in CONTROLLER_KINDS and job.state is not State.BLOCKED
    if job.state.is_held or may_have_children:
        return Transition(State.CANCELLING, "cancel-requested", {}, detail)
    return Transition(State.CANCELLED, "cancelled", FREE, detail)


@_decide.register
def _pause(event: Pause, job: Job, now: datetime, rng: Random) -> Decision:
    if job.state in (State.PAUSING, State.PAUSED):
        return Unchanged()
    if job.state.is_terminal or job.state is State.CANCELLING:
        return Refused(f"the job cannot be paused: it is {job.state}")
    if job.state is State.RUNNING and job.kind not in CONTROLLER_KINDS:
        return Transition(State.PAUSING, "pause-requested")
    return Transition(State.PAUSED, "paused", FREE)


@_decide.register
def _resume(event: Resume, job: Job, now: datetime, rng: Random) -> Decision:
    if job.state is not State.PAUSED:
        return Refused(f"only a paused job can be resumed: it is {job.state}")
    state = State.BLOCKED if job.inputs is None else State.QUEUED
    return Transition(state, "resumed", {**FREE, "run_after": now})


@_decide.register
def _requeue(event: Requeue, job: Job, now: datetime, rng: Random) -> Decision:
    if job.state is not State.QUARANTINED:
        return Refused(f"only a quarantined job can be queued again: it is {job.state}")
    return Transition(State.QUEUED, "requeued", {**FREE, "errors": 0, "worker_deaths": 0, "run_after": now})


def columns(job: Job, move: Transition, now: datetime) -> dict[str, Any]:
    """What `move` writes into the row of `job`, its audit columns but for the actor."""
    values = {**move.changes, "state": move.state, "seq": job.seq + 1, "event": move.event, "detail": move.detail}
    if move.state.is_terminal:
        values["finished_at"] = now
    if job.state is State.QUARANTINED:
        values["finished_at"] = None
    return values


def frees_slots(job: Job, move: Transition) -> bool:
    """Whether the slots that a gang held are free after `move`."""
    had_slots = job.kind in GANG_KINDS and (job.state.is_held or job.state is State.RESERVED)
    return had_slots and not move.state.is_held


def _fenced(job: Job, fence: int) -> Refused | None:
    if job.kind in CONTROLLER_KINDS:
        return Refused(f"a {job.kind} job has no attempts: it takes no lease")
    if job.fence == fence and job.state.is_held:
        return None
    return Refused(f"fence {fence} is no longer valid: the job is {job.state} with fence {job.fence}", stale=True)
