"""The ports of the rounds on PostgreSQL, NATS and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any
from uuid import UUID

import structlog
from celery import Celery
from nats.errors import Error as NatsError
from pydantic_core import to_json
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from sextant_scheduler.domain.pipeline import Child, CreateStep
from sextant_scheduler.domain.placement import Node, Waiting
from sextant_scheduler.domain.rounds import Message
from sextant_scheduler.handlers.pipelines import ACTOR, step_job
from sextant_scheduler.settings import SchedulerSettings
from sextant_scheduler.store import control
from sextant_shared import queue
from sextant_shared.bus import Bus
from sextant_shared.contracts.specs import CELERY_KINDS, PipelineSpec
from sextant_shared.errors import NotFound
from sextant_shared.faults import Faults, Point
from sextant_shared.lifecycle import gangs, jobs
from sextant_shared.lifecycle.machine import Decision, Event, Job, Transition
from sextant_shared.lifecycle.states import State

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Transaction:
    """All that the rounds do in a transaction, on a connection that has one open."""

    conn: AsyncConnection
    settings: SchedulerSettings
    rng: Random
    faults: Faults
    changes: Point | None = None
    """Reached when a job was changed."""

    async def apply(self, job_id: UUID, event: Event) -> tuple[Job, Decision]:
        """Lock the job, decide, and write."""
        told = await self.conn.run_sync(lambda conn: jobs.apply(conn, job_id, event, actor=ACTOR, rng=self.rng))
        if self.changes and isinstance(told[1], Transition):
            self.faults.reach(self.changes)
        return told

    async def unpublished(self, limit: int) -> Sequence[Message]:
        """Outbox rows to publish, locked."""
        messages = await self.conn.run_sync(control.unpublished, limit)
        if messages:
            self.faults.reach(Point.RELAY_TAKEN)
        return messages

    async def mark_published(self, ids: Sequence[int]) -> None:
        """Remember that these are in the stream."""
        self.faults.reach(Point.RELAY_PUBLISHED)
        await self.conn.run_sync(control.mark_published, ids)
        self.faults.reach(Point.RELAY_MARKED)

    async def expired(self, limit: int) -> list[UUID]:
        """Jobs whose lease or reservation has run out."""
        return await self.conn.run_sync(jobs.expired, limit)

    async def due_retries(self, limit: int) -> list[UUID]:
        """Jobs whose time to be tried again has come."""
        return await self.conn.run_sync(control.due_retries, limit)

    async def waiting_gangs(self, limit: int) -> list[Waiting]:
        """Queued gangs in order."""
        return await self.conn.run_sync(control.waiting_gangs, limit)

    async def lock_placement(self) -> bool:
        """Whether this transaction may place."""
        return await self.conn.run_sync(control.lock_placement)

    async def live_nodes(self) -> list[Node]:
        """Live nodes and what they have free."""
        return await self.conn.run_sync(control.live_nodes, self.settings.node_timeout_s)

    async def release_lapsed(self) -> int:
        """Free what silent members of gangs hold that are over."""
        return await self.conn.run_sync(gangs.release_lapsed)

    async def distrust(self, nodes: Collection[str]) -> None:
        """Give nodes no new work until they say again that they live."""
        await self.conn.run_sync(gangs.distrust, nodes)

    async def reserve(self, job_id: UUID, epoch: int, shares: Mapping[str, int]) -> None:
        """Take slots for a gang."""
        await self.conn.run_sync(gangs.reserve, job_id, epoch, shares)
        self.faults.reach(Point.PLACE_RESERVED)

    async def lock(self, job_id: UUID) -> Job | None:
        """The job's row, locked."""
        try:
            return (await self.conn.run_sync(jobs.lock, job_id))[0]
        except NotFound:
            return None

    async def children(self, parent_id: UUID) -> list[Child]:
        """A pipeline's steps as they are now."""
        rows = await self.conn.run_sync(control.children, parent_id)
        return [Child(row.id, row.step, State(row.state), row.outputs or {}) for row in rows]

    async def create(self, parent: Job, spec: PipelineSpec, step: CreateStep) -> None:
        """Insert a step's job."""
        await self.conn.run_sync(jobs.submit, [step_job(parent, spec, step)])
        self.faults.reach(Point.ADVANCE_CREATED)

    async def write_manifest(self, job_id: UUID, fence: int, outputs: dict[str, Any]) -> None:
        """Make a pipeline's outputs visible."""
        await self.conn.run_sync(jobs.write_manifest, job_id, fence, [], outputs)


@dataclass(frozen=True, slots=True)
class JetStream:
    """The stream of events."""

    bus: Bus

    async def publish(self, messages: Sequence[Message]) -> list[int]:
        """Publish all at once; the ids of those acknowledged."""
        sends = (self.bus.publish_once(each.subject, to_json(each.payload), each.msg_id) for each in messages)
        outcomes = await asyncio.gather(*sends, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, NatsError | TimeoutError | OSError):
                raise outcome
        refused = next((outcome for outcome in outcomes if isinstance(outcome, BaseException)), None)
        if refused is not None:
            reason = str(refused) or type(refused).__name__
            log.warning("relay.publish_failed", error=reason, waiting=len(messages))
        pairs = zip(messages, outcomes, strict=True)
        return [each.id for each, outcome in pairs if not isinstance(outcome, BaseException)]


@dataclass(frozen=True, slots=True)
class DueJobs:
    """What is to be dispatched, read outside of a transaction."""

    statements: AsyncEngine
    again_s: float

    async def to_dispatch(self, limit: int) -> list[tuple[UUID, str]]:
        """Queued jobs whose worker has not been woken, or not lately."""
        async with self.statements.connect() as conn:
            return await conn.run_sync(control.to_dispatch, self.again_s, limit)


@dataclass(frozen=True, slots=True)
class CeleryQueues:
    """The queues of the workers."""

    celery: Celery

    async def keep(self) -> bool:
        """Whether the broker has lost nothing; True also where it is away, and there is nothing to be done yet."""
        try:
            return await asyncio.to_thread(queue.keeps, self.celery)
        except Exception as error:  # noqa: BLE001 - any broker error means the same
            log.warning("dispatch.broker_unavailable", error=str(error))
            return True

    async def mark(self) -> None:
        """Notice from now on where the broker loses its data."""
        try:
            await asyncio.to_thread(queue.mark, self.celery)
        except Exception as error:  # noqa: BLE001 - then all is sent once more
            log.warning("dispatch.broker_unavailable", error=str(error))

    async def empty(self) -> list[str]:
        """Kinds for whose workers no message waits; none of them where the broker is away."""
        try:
            waiting = await asyncio.to_thread(queue.waiting, self.celery, CELERY_KINDS)
        except Exception as error:  # noqa: BLE001 - any broker error means the same
            log.warning("dispatch.broker_unavailable", error=str(error))
            return []
        return [kind for kind in CELERY_KINDS if kind not in waiting]

    async def wake(self, due: Sequence[tuple[UUID, str]]) -> list[UUID]:
        """Send a message for each; those sent before the broker failed, if it did."""
        return await asyncio.to_thread(self._send, due)

    def _send(self, due: Sequence[tuple[UUID, str]]) -> list[UUID]:
        sent: list[UUID] = []
        for job_id, kind in due:
            try:
                queue.send(self.celery, kind, str(job_id))
            except Exception as error:  # noqa: BLE001 - any broker error means the same: the sweep sends it again
                log.warning("dispatch.failed", job_id=str(job_id), error=str(error))
                break
            sent.append(job_id)
        return sent
