"""What a supervisor decides by itself about its attempt: whether it may go on, and how it ended. Pure.

All times are those of the supervisor's own monotonic clock.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from sextant_shared.errors import StaleFence
from sextant_shared.execution.launching import Ending
from sextant_shared.execution.workbench import Divided, Failed, Paused, Result
from sextant_shared.lifecycle.machine import Complete, Died, Fail, Stopped

MARGIN = 0.8
"""Share of the lease after which work is stopped if no heartbeat got through: before anyone else may claim."""


class Wish(Enum):
    """What has to become of the running attempt."""

    GO_ON = auto()
    PAUSE = auto()
    CANCEL = auto()
    DRAIN = auto()
    LOST = auto()


@dataclass(slots=True)
class Hold:
    """A lease as its owner knows it.

    The deadline counts from the moment at which a claim or a heartbeat is sent, so that a process which was stopped
    (SIGSTOP, a frozen machine) knows on waking that it may have lost the job, before it asks anyone.
    """

    lease_s: float
    deadline: float
    next_beat: float

    @classmethod
    def since(cls, sent: float, lease_s: float) -> Hold:
        """The hold of a claim that was sent at `sent`."""
        return cls(lease_s, sent + lease_s * MARGIN, sent + lease_s / 3)

    def is_lost(self, now: float) -> bool:
        """Whether the work must stop, whatever the store would say."""
        return now > self.deadline

    def is_due(self, now: float) -> bool:
        """Whether it is time for a heartbeat."""
        return now >= self.next_beat

    def sending(self, now: float) -> None:
        """A heartbeat is about to be sent."""
        self.next_beat = now + self.lease_s / 3

    def extended(self, sent: float) -> None:
        """The heartbeat that was sent at `sent` got through."""
        self.deadline = sent + self.lease_s * MARGIN


def conclude(
    fence: int,
    final: Result | Divided | Paused | Failed | None,
    ending: Ending,
    wish: Wish,
    cause: Callable[[], Failed | str | None] = lambda: None,
) -> Complete | Fail | Stopped | Died:
    """What to tell the store about an attempt whose processes are gone. Raises StaleFence where the lease was lost.

    `cause` is asked where the processes ended without saying why: what other nodes know of it.
    """
    if wish is Wish.LOST:
        raise StaleFence("the lease was lost while the work ran")
    if isinstance(final, Result) and ending.clean:
        return Complete(fence)
    if isinstance(final, Failed) and not final.interrupted:
        return failure(fence, final)
    if isinstance(final, Paused) or wish in (Wish.CANCEL, Wish.PAUSE, Wish.DRAIN):
        return Stopped(fence)
    known = cause()
    return failure(fence, known) if isinstance(known, Failed) else Died(fence, known or ending.told)


def failure(fence: int, failed: Failed) -> Fail:
    """The event of an error that the work or its supervisor met."""
    error: dict[str, object] = {"message": failed.message[:4000]}
    if failed.field:
        error["field"] = failed.field
    return Fail(fence, error, failed.retriable)
