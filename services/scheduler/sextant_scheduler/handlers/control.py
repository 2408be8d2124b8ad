"""Relay, dispatch, placement and repair: each correct with any number of copies, and after a stop at any point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar
from uuid import UUID

import structlog
from celery import Celery
from nats.errors import Error as NatsError
from pydantic_core import to_json
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_scheduler.domain.placement import place
from sextant_scheduler.handlers import pipelines
from sextant_scheduler.settings import SchedulerSettings
from sextant_scheduler.store import control
from sextant_shared import queue
from sextant_shared.bus import Bus
from sextant_shared.lifecycle import gangs, jobs
from sextant_shared.lifecycle.machine import GANG_KINDS, Event, Expire, Reserve, Transition, Wake

log = structlog.get_logger(__name__)

ACTOR = "scheduler"
BATCH = 500
T = TypeVar("T")


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

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and commit it."""
        async with self.engine.begin() as conn:
            return await conn.run_sync(work)


async def relay(control_: Control) -> set[UUID]:
    """Publish what the outbox holds; the parents of the jobs that the messages were about.

    Published first, marked after: a stop in between publishes again, and JetStream drops the second by its message id.
    """
    touched: set[UUID] = set()
    async with control_.engine.begin() as conn:
        rows = await conn.run_sync(control.unpublished, BATCH)
        published: list[int] = []
        try:
            sends = (control_.bus.publish_once(row.subject, to_json(row.payload), row.msg_id) for row in rows)
            for row, outcome in zip(rows, await asyncio.gather(*sends, return_exceptions=True), strict=True):
                if isinstance(outcome, BaseException):
                    raise outcome
                published.append(row.id)
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("relay.publish_failed", error=str(error) or type(error).__name__, waiting=len(rows))
        if published:
            await conn.run_sync(control.mark_published, published)
        for row in rows:
            if parent := row.payload.get("parent_id"):
                touched.add(UUID(parent))
            if row.payload.get("kind") == "pipeline":
                touched.add(UUID(row.payload["job_id"]))
    return touched


async def dispatch(control_: Control, announced: Sequence[tuple[UUID, str]] = ()) -> list[UUID]:
    """Wake workers for queued jobs; those sent, for `mark_dispatched`.

    The `announced` go first, without a look into the store: whoever is woken in vain finds nothing to claim.
    """
    sent = await asyncio.to_thread(_send, control_.celery, announced) if announced else []
    async with control_.statements.connect() as conn:
        due = await conn.run_sync(control.to_dispatch, control_.settings.redispatch_s, BATCH)
    rest = [(job_id, kind) for job_id, kind in due if job_id not in sent]
    return sent + (await asyncio.to_thread(_send, control_.celery, rest) if rest else [])


def _send(celery: Celery, due: Sequence[tuple[UUID, str]]) -> list[UUID]:
    sent: list[UUID] = []
    for job_id, kind in due:
        try:
            queue.send(celery, kind, str(job_id))
        except Exception as error:  # noqa: BLE001 - any broker error means the same: the sweep sends it again
            log.warning("dispatch.failed", job_id=str(job_id), error=str(error))
            break
        sent.append(job_id)
    return sent


async def mark_dispatched(control_: Control, sent: list[UUID]) -> None:
    """Remember what was sent. A stop before this sends again, and the second message finds nothing to claim; what is
    marked and lost on its way is sent again after `redispatch_s`.
    """
    if sent:
        async with control_.statements.connect() as conn:
            await conn.run_sync(control.mark_dispatched, sent)


async def place_gangs(control_: Control) -> int:
    """Reserve slots for waiting gangs; the number placed."""
    return await control_.transact(lambda conn: _place(conn, control_.settings, control_.rng))


def _place(conn: Connection, settings: SchedulerSettings, rng: Random) -> int:
    waiting = control.waiting_gangs(conn, BATCH)
    if not waiting or not control.lock_placement(conn):
        return 0
    placed = place(waiting, control.live_nodes(conn, settings.node_timeout_s))
    for gang in placed:
        event = Reserve(gang.shares, settings.reservation_s)
        job, decision = jobs.apply(conn, gang.job_id, event, actor=ACTOR, rng=rng)
        if isinstance(decision, Transition):
            gangs.reserve(conn, gang.job_id, job.epoch + 1, gang.shares)
    return len(placed)


async def repair(control_: Control) -> list[str]:
    """Release expired leases and reservations, and wake retries that are due; the event of each job that changed."""

    def work(conn: Connection) -> list[str]:
        gangs.release_lapsed(conn)
        expired: list[tuple[UUID, Event]] = [(job_id, Expire()) for job_id in jobs.expired(conn, BATCH)]
        due: list[tuple[UUID, Event]] = [(job_id, Wake()) for job_id in control.due_retries(conn, BATCH)]
        changed: list[str] = []
        silent: set[str] = set()
        for job_id, event in sorted([*expired, *due], key=lambda pair: pair[0]):
            job, decision = jobs.apply(conn, job_id, event, actor=ACTOR, rng=control_.rng)
            if isinstance(decision, Transition):
                changed.append(decision.event)
                if job.kind in GANG_KINDS and isinstance(event, Expire):
                    silent.add((job.lease_owner or "").partition("/")[0])
        # At the end: who holds a node's row must not wait for a job's.
        gangs.distrust(conn, silent)
        return changed

    return await control_.transact(work)


async def advance_pipelines(control_: Control, touched: set[UUID] | None) -> int:
    """Advance the pipelines that were touched, or all that are open; the number that changed."""
    due = await control_.transact(control.open_pipelines) if touched is None else sorted(touched)
    changed = 0
    for pipeline_id in due:
        changed += await control_.transact(lambda conn, i=pipeline_id: pipelines.advance(conn, i, control_.rng))  # type: ignore[misc]
    return changed
