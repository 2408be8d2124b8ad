"""The jobs of one worker: claimed, seen through by an attempt each, and handed back when the worker stops."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from random import Random
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from sextant_shared.contracts.messages import JobEvent
from sextant_shared.contracts.rights import WISHES
from sextant_shared.execution.attempt import Attempt
from sextant_shared.execution.hold import Hold
from sextant_shared.execution.workshop import Workshop
from sextant_shared.faults import Point
from sextant_shared.lifecycle import gangs, jobs
from sextant_shared.lifecycle.machine import GANG_KINDS, Claim, Died, Job, Transition
from sextant_shared.lifecycle.place import Place

log = structlog.get_logger(__name__)

STORE_AGAIN_S = 0.5


class Supervisor:
    """Runs jobs for one worker, one call a job; safe to use from several threads."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._rng = Random()
        self._running: set[Attempt] = set()
        self._lock = threading.Lock()
        self._draining = threading.Event()

    def listen(self) -> None:
        """Let attempts learn of wishes when they are uttered. Without NATS they learn of them by heartbeat."""
        for subject in WISHES:
            self._shop.bus.subscribe(subject, self._on_wish)

    def _on_wish(self, subject: str, payload: bytes) -> None:
        try:
            job_id = JobEvent.model_validate_json(payload).job_id
        except ValidationError as error:
            log.warning("supervisor.bad_event", subject=subject, error=str(error)[:500])
            return
        with self._lock:
            concerned = [attempt for attempt in self._running if attempt.job_id == job_id]
        for attempt in concerned:
            attempt.hurry()

    def run(self, job_id: UUID, epoch: int | None = None) -> bool:
        """Claim the job and see it through; False where it is not to be had (a late message)."""
        return self._run(lambda conn: job_id, epoch)

    def _run(self, choose: Callable[[Connection], UUID | None], epoch: int | None) -> bool:
        sent = time.monotonic()
        claimed = self._claim(choose, epoch)
        if claimed is None:
            return False
        job, place, node = claimed
        attempt = Attempt(self._shop, job, Hold.since(sent, self._shop.lease_s), place, node, self._rng, self.run)
        with self._lock:
            self._running.add(attempt)
        try:
            with structlog.contextvars.bound_contextvars(
                job_id=str(job.id), attempt=job.attempt, fence=job.fence, correlation_id=str(job.root_id)
            ):
                attempt.run()
        finally:
            with self._lock:
                self._running.discard(attempt)
        return True

    def run_next(self, woken: UUID) -> bool:
        """Claim the first queued job of the kind of this one, and see it through; False where there is none.

        Where the store is away, wait for it: a message that is given up would be missed for long. False also where the
        worker drains meanwhile.
        """
        while not self._draining.is_set():
            try:
                return self._run(lambda conn: jobs.next_queued(conn, woken), None)
            except OperationalError as error:
                log.warning("claim.store_unavailable", woken=str(woken), error=str(error.orig).splitlines()[0][:300])
                self._draining.wait(STORE_AGAIN_S)
        return False

    def drain(self) -> None:
        """Stop all attempts at their next chance and hand their jobs back."""
        self._draining.set()
        with self._lock:
            attempts = list(self._running)
        for attempt in attempts:
            attempt.drain()

    def recover(self) -> int:
        """Hand back at once what an earlier process of the same worker held when it died; the number of jobs.

        Only to be called when nothing of that process can be alive any more: see `identity.WorkerLock`.
        """
        with self._shop.engine.begin() as conn:
            held = jobs.held_by(conn, self._shop.worker)
            for job in held:
                event = Died(job.fence, "the worker process died")
                jobs.apply(conn, job.id, event, actor=self._shop.worker, rng=self._rng)
                self._shop.faults.reach(Point.RECOVER_WRITTEN)
        if held:
            self._shop.faults.reach(Point.RECOVER_COMMITTED)
            self._shop.bus.wake()
        return len(held)

    def _claim(self, choose: Callable[[Connection], UUID | None], epoch: int | None) -> tuple[Job, Place, str] | None:
        event = Claim(self._shop.worker, self._shop.lease_s, epoch)
        place = Place()
        with self._shop.engine.begin() as conn:
            job_id = choose(conn)
            if job_id is None:
                return None
            job, decision = jobs.apply(conn, job_id, event, actor=self._shop.worker, rng=self._rng)
            node = job.lease_owner or self._shop.worker
            if isinstance(decision, Transition) and job.kind in GANG_KINDS:
                place = gangs.place_of(conn, job.id, node)
            if isinstance(decision, Transition):
                self._shop.faults.reach(Point.CLAIM_WRITTEN)
        if not isinstance(decision, Transition):
            log.info("claim.refused", job_id=str(job_id), decision=str(decision))
            return None
        self._shop.faults.reach(Point.CLAIM_COMMITTED)
        claimed_at = decision.changes["lease_until"] - timedelta(seconds=self._shop.lease_s)
        self._shop.measures.claimed(job.kind, (claimed_at - job.run_after).total_seconds())
        return replace(job, state=decision.state, fence=job.fence + 1, attempt=job.attempt + 1), place, node
