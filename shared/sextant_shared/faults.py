"""The points of the protocol at which a process may die and nothing may be lost.

Code reaches each of them by name. In production nothing happens there; tests pass a `Faults` that ends the process, and
assert that all points were reached: see docs/reliability.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Point(StrEnum):
    """Between two effects that do not happen together."""

    SUBMIT_ARRIVED = "submit.arrived"  #: before the statement that makes submissions durable
    SUBMIT_COMMITTED = "submit.committed"  #: durable, and not answered
    RELAY_TAKEN = "relay.taken"  #: messages are locked, none is published
    RELAY_PUBLISHED = "relay.published"  #: acknowledged by the stream, not marked
    RELAY_MARKED = "relay.marked"  #: marked, not committed
    RELAY_COMMITTED = "relay.committed"
    DISPATCH_SENT = "dispatch.sent"  #: taken by the broker, not marked
    DISPATCH_MARKED = "dispatch.marked"
    PLACE_RESERVED = "place.reserved"  #: slots are taken, not committed
    PLACE_COMMITTED = "place.committed"
    REPAIR_APPLIED = "repair.applied"  #: a lease is taken away or a retry woken, not committed
    REPAIR_COMMITTED = "repair.committed"
    ADVANCE_CREATED = "advance.created"  #: a pipeline's step is inserted, not committed
    ADVANCE_APPLIED = "advance.applied"  #: a pipeline or its step was moved, not committed
    ADVANCE_COMMITTED = "advance.committed"
    RECALL_FORGOTTEN = "recall.forgotten"  #: all queued jobs are to be sent again, the broker is not marked
    CLAIM_WRITTEN = "claim.written"  #: the lease is taken, not committed
    CLAIM_COMMITTED = "claim.committed"  #: the lease is ours, and no work has begun
    ATTEMPT_PREPARED = "attempt.prepared"  #: inputs are there, the work has not begun
    ATTEMPT_STARTED = "attempt.started"
    ATTEMPT_ENDED = "attempt.ended"  #: the work is over, nobody has been told
    BEAT_WRITTEN = "beat.written"
    BEAT_COMMITTED = "beat.committed"
    CHECKPOINT_STORED = "checkpoint.stored"  #: its files are stored, it is not committed
    CHECKPOINT_WRITTEN = "checkpoint.written"
    CHECKPOINT_COMMITTED = "checkpoint.committed"
    RESULT_STORED = "result.stored"  #: the artefacts are stored, nothing is committed
    RESULT_WRITTEN = "result.written"  #: manifest and end are written, not committed
    RESULT_COMMITTED = "result.committed"  #: committed; the queue's message is not acknowledged
    ENDING_WRITTEN = "ending.written"  #: a failure, a death or a stop, not committed
    ENDING_COMMITTED = "ending.committed"
    RECOVER_WRITTEN = "recover.written"  #: what an earlier process held is handed back, not committed
    RECOVER_COMMITTED = "recover.committed"


class Faults(Protocol):
    """What happens at the points."""

    def reach(self, point: Point) -> None:
        """Return, or do not."""


class NoFaults:
    """Production: nothing happens."""

    def reach(self, point: Point) -> None:
        """Return."""


NO_FAULTS = NoFaults()
