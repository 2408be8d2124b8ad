"""The rounds of the control process: what is read, sent and written, and in which order.

No I/O of their own. `handlers.control` runs them on PostgreSQL, NATS and Redis; the simulation runs them on a model and
may stop, crash or overtake them at any `await`. A port named `transaction` stands for one that is open: what it writes
holds when whoever opened it has committed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

from sextant_scheduler.domain.placement import Node, Waiting, place
from sextant_shared.lifecycle.machine import GANG_KINDS, Decision, Event, Expire, Job, Reserve, Transition, Wake

BATCH = 500


@dataclass(frozen=True, slots=True)
class Message:
    """A row of the outbox."""

    id: int
    msg_id: str
    subject: str
    payload: dict[str, Any]


class Outbox(Protocol):
    """The outbox in one transaction."""

    async def unpublished(self, limit: int) -> Sequence[Message]:
        """Messages to publish, oldest first, locked; those that another copy holds are left to it."""

    async def mark_published(self, ids: Sequence[int]) -> None:
        """Remember that these are in the stream."""


class Stream(Protocol):
    """The stream that keeps the events."""

    async def publish(self, messages: Sequence[Message]) -> list[int]:
        """Publish under their message ids; the ids of those that the stream acknowledged."""


class Due(Protocol):
    """What is to be dispatched."""

    async def to_dispatch(self, limit: int) -> list[tuple[UUID, str]]:
        """Queued jobs whose worker has not been woken, or not lately, and their kinds."""


class Workers(Protocol):
    """The queues of the workers."""

    async def wake(self, due: Sequence[tuple[UUID, str]]) -> list[UUID]:
        """Send a message for each; those that the broker took."""


class Rows(Protocol):
    """Job rows in one transaction."""

    async def apply(self, job_id: UUID, event: Event) -> tuple[Job, Decision]:
        """Lock the job, decide, and write: the job as it was, and the decision."""


class Repairs(Rows, Protocol):
    """What repair looks for."""

    async def expired(self, limit: int) -> list[UUID]:
        """Jobs whose lease or reservation has run out, locked; those that somebody else holds are left out."""

    async def release_lapsed(self) -> int:
        """Free what members of gangs hold who fell silent and whose gang is over."""

    async def distrust(self, nodes: Collection[str]) -> None:
        """Give these nodes no new work until they say again that they live."""

    async def due_retries(self, limit: int) -> list[UUID]:
        """Jobs whose time to be tried again has come, locked likewise."""


class Slots(Rows, Protocol):
    """What placement works with."""

    async def waiting_gangs(self, limit: int) -> list[Waiting]:
        """Queued gangs in the order in which they are to be placed."""

    async def lock_placement(self) -> bool:
        """Whether this transaction may place; one at a time, whoever comes second has nothing to do."""

    async def live_nodes(self) -> list[Node]:
        """Live nodes that take new work."""

    async def reserve(self, job_id: UUID, epoch: int, shares: Mapping[str, int]) -> None:
        """Take slots for a gang: ranks by node."""


async def relay(transaction: Outbox, stream: Stream) -> set[UUID]:
    """Publish what the outbox holds; the controllers that the messages concern.

    Published first, marked after: a stop in between publishes again, and the stream drops the second by its message id.
    """
    messages = await transaction.unpublished(BATCH)
    acknowledged = await stream.publish(messages)
    if acknowledged:
        await transaction.mark_published(acknowledged)
    touched: set[UUID] = set()
    for message in messages:
        if parent := message.payload.get("parent_id"):
            touched.add(UUID(parent))
        if message.payload.get("kind") == "pipeline":
            touched.add(UUID(message.payload["job_id"]))
    return touched


async def dispatch(store: Due, workers: Workers, announced: Sequence[tuple[UUID, str]] = ()) -> list[UUID]:
    """Wake workers for queued jobs; those sent, to be marked so.

    The `announced` go first, without a look into the store: whoever is woken in vain finds nothing to claim.
    """
    sent = await workers.wake(announced) if announced else []
    due = await store.to_dispatch(BATCH)
    rest = [(job_id, kind) for job_id, kind in due if job_id not in sent]
    return sent + (await workers.wake(rest) if rest else [])


async def repair(transaction: Repairs) -> list[str]:
    """Release expired leases and reservations, and wake retries that are due; the event of each job that changed."""
    await transaction.release_lapsed()
    expired: list[tuple[UUID, Event]] = [(job_id, Expire()) for job_id in await transaction.expired(BATCH)]
    due: list[tuple[UUID, Event]] = [(job_id, Wake()) for job_id in await transaction.due_retries(BATCH)]
    events: list[str] = []
    silent: set[str] = set()
    for job_id, event in sorted([*expired, *due], key=lambda pair: pair[0]):
        job, decision = await transaction.apply(job_id, event)
        if isinstance(decision, Transition):
            events.append(decision.event)
            if job.kind in GANG_KINDS and isinstance(event, Expire):
                silent.add((job.lease_owner or "").partition("/")[0])
    # At the end: who holds a node's row must not wait for a job's.
    await transaction.distrust(sorted(silent))
    return events


async def place_gangs(transaction: Slots, reservation_s: float) -> int:
    """Reserve slots for waiting gangs; the number placed."""
    waiting = await transaction.waiting_gangs(BATCH)
    if not waiting or not await transaction.lock_placement():
        return 0
    number = 0
    for gang in place(waiting, await transaction.live_nodes()):
        job, decision = await transaction.apply(gang.job_id, Reserve(gang.shares, reservation_s))
        if isinstance(decision, Transition):
            await transaction.reserve(gang.job_id, job.epoch + 1, gang.shares)
            number += 1
    return number
