"""The states of a job and the transitions between them. The migration loads LEGAL into the database's guard."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job is in its life."""

    BLOCKED = "BLOCKED"  #: a pipeline step whose inputs are not made yet
    QUEUED = "QUEUED"  #: ready to be claimed
    RESERVED = "RESERVED"  #: a gang whose slots are taken, until it starts
    RUNNING = "RUNNING"  #: claimed: a worker holds the lease (a controller holds none)
    RETRY_WAIT = "RETRY_WAIT"  #: failed in a way that may pass; queued again at run_after
    PAUSING = "PAUSING"  #: asked to stop at a checkpoint
    PAUSED = "PAUSED"  #: stopped until resumed
    CANCELLING = "CANCELLING"  #: asked to stop for good
    SUCCEEDED = "SUCCEEDED"  #: committed its manifest
    FAILED = "FAILED"  #: ended by an error that will not pass
    CANCELLED = "CANCELLED"  #: stopped because someone asked
    SKIPPED = "SKIPPED"  #: a step not run because one that it needs did not succeed
    QUARANTINED = "QUARANTINED"  #: out of attempts, or killed its workers; an operator may queue it again

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self in TERMINAL

    @property
    def is_held(self) -> bool:
        """Whether an attempt may be alive and its lease counts."""
        return self in HELD


TERMINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SKIPPED, State.QUARANTINED})
HELD = frozenset({State.RUNNING, State.PAUSING, State.CANCELLING})

LEGAL: dict[State | None, frozenset[State]] = {
    None: frozenset({State.QUEUED, State.BLOCKED}),
    State.BLOCKED: frozenset({State.QUEUED, State.SKIPPED, State.FAILED, State.CANCELLED, State.PAUSED}),
    State.QUEUED: frozenset({State.RUNNING, State.RESERVED, State.CANCELLING, State.CANCELLED, State.PAUSED}),
    State.RESERVED: frozenset({State.RUNNING, State.QUEUED, State.CANCELLED, State.PAUSED}),
    State.RUNNING: frozenset(
        {
            State.SUCCEEDED,
            State.FAILED,
            State.RETRY_WAIT,
            State.QUEUED,
            State.QUARANTINED,
            State.CANCELLING,
            State.PAUSING,
            State.PAUSED,
        }
    ),
    State.RETRY_WAIT: frozenset({State.QUEUED, State.CANCELLED, State.PAUSED}),
    State.PAUSING: frozenset({State.PAUSED, State.SUCCEEDED, State.FAILED, State.QUARANTINED, State.CANCELLING}),
    State.PAUSED: frozenset({State.QUEUED, State.BLOCKED, State.CANCELLING, State.CANCELLED}),
    State.CANCELLING: frozenset({State.CANCELLED, State.SUCCEEDED}),
    State.QUARANTINED: frozenset({State.QUEUED}),
}
