"""Relay, dispatch, placement and repair: each correct with any number of copies, and after a stop at any point."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import TypeVar
from uuid import UUID

from celery import Celery
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_scheduler.domain import advancing, rounds
from sextant_scheduler.handlers.ports import CeleryQueues, DueJobs, JetStream, Transaction
from sextant_scheduler.settings import SchedulerSettings
from sextant_scheduler.store import control
from sextant_shared.bus import Bus
from sextant_shared.contracts.specs import CELERY_KINDS
from sextant_shared.faults import NO_FAULTS, Faults, Point

T = TypeVar("T")
STUCK_S = 15.0
"""Longer than a server takes to flush what it has, or to elect another leader."""
ROUSE_S = 2.0
"""By then a worker that has nothing to do has claimed what it was woken for."""


@dataclass(frozen=True, slots=True)
class Control:
    """What the control process works with."""

    engine: AsyncEngine
    statements: AsyncEngine
    """Commits each statement: for what one statement does, in one round trip."""
    bus: Bus
    celery: Celery
    settings: SchedulerSettings
    rng: Random
    faults: Faults = NO_FAULTS

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and commit it."""
        async with self.engine.begin() as conn:
            return await conn.run_sync(work)

    @asynccontextmanager
    async def transaction(self, changes: Point | None = None) -> AsyncIterator[Transaction]:
        """The ports of the rounds in one transaction, committed at the end."""
        async with self.engine.begin() as conn:
            yield Transaction(conn, self.settings, self.rng, self.faults, changes)


async def relay(control_: Control) -> set[UUID]:
    """Publish what the outbox holds; the controllers that the messages concern."""
    async with control_.transaction() as transaction:
        touched = await rounds.relay(transaction, JetStream(control_.bus))
    control_.faults.reach(Point.RELAY_COMMITTED)
    return touched


async def dispatch(control_: Control, announced: Sequence[tuple[UUID, str]] = ()) -> list[UUID]:
    """Wake workers for queued jobs, the `announced` first; those sent, for `mark_dispatched`."""
    due = DueJobs(control_.statements, control_.settings.redispatch_s)
    sent = await rounds.dispatch(due, CeleryQueues(control_.celery), announced)
    if sent:
        control_.faults.reach(Point.DISPATCH_SENT)
    return sent


async def recall(control_: Control) -> int:
    """Where the broker has lost its data, let every queued job be sent again; their number.

    The store first: a stop in between sends once more, and the second message finds nothing to claim.
    """
    queues = CeleryQueues(control_.celery)
    if await queues.keep():
        return 0
    async with control_.statements.connect() as conn:
        forgotten = await conn.run_sync(control.forget_dispatched, CELERY_KINDS, 0.0)
    control_.faults.reach(Point.RECALL_FORGOTTEN)
    await queues.mark()
    return forgotten


async def rouse(control_: Control) -> int:
    """Where jobs wait and their queue has no message, let them be sent again; their number.

    Their messages were lost with a worker, or one that is busy holds them while others have nothing to do.
    """
    empty = await CeleryQueues(control_.celery).empty()
    if not empty:
        return 0
    async with control_.statements.connect() as conn:
        return await conn.run_sync(control.forget_dispatched, empty, ROUSE_S)


async def ensure_streams(control_: Control) -> int:
    """Make the streams that are missing; events that a lost one had are published again, and their number returned.

    A stream that answers nothing any more is made anew: a full disk leaves JetStream's so until its server is started
    again, even when there is room again. The store first, here too: the stream drops by its message id what it has.
    """
    lost = await control_.bus.lacks_events()
    stuck = not lost and control_.bus.unanswered_s > STUCK_S
    published = await control_.transact(control.unpublish) if lost or stuck else 0
    if stuck:
        await control_.bus.drop_events()
    await control_.bus.ensure_streams()
    return published


async def mark_dispatched(control_: Control, sent: list[UUID]) -> None:
    """Remember what was sent. A stop before this sends again, and the second message finds nothing to claim; what is
    marked and lost on its way is sent again after `redispatch_s`.
    """
    if sent:
        async with control_.statements.connect() as conn:
            await conn.run_sync(control.mark_dispatched, sent)
        control_.faults.reach(Point.DISPATCH_MARKED)


async def place_gangs(control_: Control) -> int:
    """Reserve slots for waiting gangs; the number placed."""
    async with control_.transaction() as transaction:
        placed = await rounds.place_gangs(transaction, control_.settings.reservation_s)
    if placed:
        control_.faults.reach(Point.PLACE_COMMITTED)
    return placed


async def repair(control_: Control) -> list[str]:
    """Release expired leases and reservations, and wake retries that are due; the event of each job that changed."""
    async with control_.transaction(Point.REPAIR_APPLIED) as transaction:
        events = await rounds.repair(transaction)
    if events:
        control_.faults.reach(Point.REPAIR_COMMITTED)
    return events


async def advance_pipelines(control_: Control, touched: set[UUID] | None) -> int:
    """Advance the pipelines that were touched, or all that are open; the number that changed."""
    due = await control_.transact(control.open_pipelines) if touched is None else sorted(touched)
    changed = 0
    for pipeline_id in due:
        async with control_.transaction(Point.ADVANCE_APPLIED) as transaction:
            acted = await advancing.advance(transaction, pipeline_id)
        if acted:
            changed += 1
            control_.faults.reach(Point.ADVANCE_COMMITTED)
    return changed
