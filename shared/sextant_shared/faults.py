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
    SUMMON_WRITTEN = "summon.written"  #: a gang's members are called, not committed
    SUMMON_COMMITTED = "summon.committed"  #: called, and nobody has been woken
    JOIN_WRITTEN = "join.written"  #: a member's lease is taken, not committed
    JOIN_COMMITTED = "join.committed"  #: the member has joined, and none of its ranks has begun
    LEAVE_WRITTEN = "leave.written"  #: how a member's ranks ended is written, not committed
    LEAVE_COMMITTED = "leave.committed"
    ENLIST_WRITTEN = "enlist.written"  #: the jobs of a work's pieces are inserted, not committed
    ENLIST_COMMITTED = "enlist.committed"  #: they are there, and nobody has been woken
    PIECES_FETCHED = "pieces.fetched"  #: all pieces are done and here, the work has not gone on with them
    SEARCH_DECIDED = "search.decided"  #: trials are inserted or told, not committed
    SEARCH_COMMITTED = "search.committed"  #: they are there, and nobody has been woken
    SEAL_WRITTEN = "seal.written"  #: a checkpoint is signed and written, not committed
    SEAL_COMMITTED = "seal.committed"  #: the database has it, the notary's own file has not


class Faults(Protocol):
    """What happens at the points."""

    def reach(self, point: Point) -> None:
        """Return, or do not."""


class NoFaults:
    """Production: nothing happens."""

    def reach(self, point: Point) -> None:
        """Return."""


NO_FAULTS = NoFaults()
