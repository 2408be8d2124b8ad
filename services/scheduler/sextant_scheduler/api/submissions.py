"""Submissions that come in at the same time share one transaction: one flush to disk makes all of them durable."""

from __future__ import annotations

import asyncio
from collections import deque
from uuid import UUID

from sqlalchemy.exc import OperationalError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_shared.bus import Bus
from sextant_shared.contracts.specs import CELERY_KINDS
from sextant_shared.errors import RateLimited, Unavailable
from sextant_shared.faults import NO_FAULTS, Faults, Point
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.jobs import NewJob, Submitted
from sextant_shared.lifecycle.states import State

MAX_BATCH = 256
MAX_WAITING = 4096
IN_FLIGHT = 3


class Submissions:
    """Group commit: while transactions run, what arrives waits for the next. Nobody waits on a timer.

    A few transactions at a time keep both sides busy: the database writes one group while the next one is read.
    """

    def __init__(self, engine: AsyncEngine, bus: Bus, faults: Faults = NO_FAULTS) -> None:
        """`engine` commits each statement: a group is inserted by one."""
        self._engine = engine
        self._bus = bus
        self._faults = faults
        self._waiting: deque[tuple[NewJob, asyncio.Future[Submitted]]] = deque()
        self._workers: set[asyncio.Task[None]] = set()

    async def submit(self, job: NewJob) -> Submitted:
        """Return once the job is durable. Raises RateLimited when too many wait, Unavailable without the store."""
        if len(self._waiting) >= MAX_WAITING:
            raise RateLimited()
        future: asyncio.Future[Submitted] = asyncio.get_running_loop().create_future()
        self._waiting.append((job, future))
        if len(self._workers) < IN_FLIGHT:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)
        return await future

    async def _work(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
            await self._commit(batch)

    async def _commit(self, batch: list[tuple[NewJob, asyncio.Future[Submitted]]]) -> None:
        self._faults.reach(Point.SUBMIT_ARRIVED)
        try:
            results = await self._insert([job for job, _ in batch])
        except SQLAlchemyError as error:
            if len(batch) > 1 and not isinstance(error, OperationalError):
                # One of them cannot be stored; alone, each gets its own answer.
                for item in batch:
                    await self._commit([item])
                return
            self._refuse(batch, Unavailable() if isinstance(error, OperationalError) else error)
        except OSError:
            self._refuse(batch, Unavailable())
        else:
            self._faults.reach(Point.SUBMIT_COMMITTED)
            # The wake goes first: the workers need not wait until the answers are written.
            await self._bus.wake(_dispatchable([job for job, _ in batch], results))
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)

    async def _insert(self, batch: list[NewJob]) -> list[Submitted]:
        try:
            async with self._engine.connect() as conn:
                return await conn.run_sync(jobs.submit, batch)
        except OperationalError:
            # A connection may have died unseen. Again is safe: what was stored is found by its key.
            async with self._engine.connect() as conn:
                return await conn.run_sync(jobs.submit, batch)

    @staticmethod
    def _refuse(batch: list[tuple[NewJob, asyncio.Future[Submitted]]], error: Exception) -> None:
        for _, future in batch:
            if not future.done():
                future.set_exception(error)


def _dispatchable(batch: list[NewJob], results: list[Submitted]) -> list[tuple[UUID, str]]:
    return [
        (job.id, job.kind)
        for job, result in zip(batch, results, strict=True)
        if result.created and job.state is State.QUEUED and job.kind in CELERY_KINDS
    ]
