"""Bring what is served to what is desired, and see deploy jobs through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import Connection, Row
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_inference import store
from sextant_inference.runtime.models import Models, Wanted
from sextant_shared.artefacts import Artefacts
from sextant_shared.bus import Bus
from sextant_shared.errors import SextantError, StaleFence
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import Claim, Died, Fail, Job, Transition
from sextant_shared.store.versions import files_of, prefix_of

log = structlog.get_logger(__name__)

# Loading a model may take a while, and nothing beats meanwhile; a successor releases it earlier in any case.
DEPLOY_LEASE_S = 120.0
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reconciler:
    """What reconciling works with. One task calls it."""

    engine: AsyncEngine
    bus: Bus
    artefacts: Artefacts
    models: Models
    worker: str
    rng: Random

    async def transact(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction and commit it."""
        async with self.engine.begin() as conn:
            return await conn.run_sync(work)

    async def recover(self) -> None:
        """Hand back what an earlier process held when it died."""

        def work(conn: Connection) -> None:
            for job in jobs.held_by(conn, self.worker):
                event = Died(job.fence, "the inference process died")
                jobs.apply(conn, job.id, event, actor=self.worker, rng=self.rng)

        await self.transact(work)

    async def reconcile(self) -> None:
        """One round: load and unload endpoints, then take the deploy jobs that wait."""
        await self._serve_desired()
        self.models.settled = True
        for job_id in await self.transact(store.waiting_deploys):
            job = await self.transact(lambda conn, i=job_id: self._claim(conn, i))  # type: ignore[misc]
            if job:
                await self._deploy(job)

    async def _serve_desired(self) -> None:
        endpoints = await self.transact(store.all_desired)
        serving = self.models.generations()
        for endpoint in endpoints:
            if endpoint.model_id is None:
                self.models.unload(endpoint.tenant, endpoint.name)
                await self.transact(lambda conn, e=endpoint: store.observed(conn, e, "DELETED", None, self.worker))  # type: ignore[misc]
            elif serving.get((endpoint.tenant, endpoint.name)) != endpoint.generation:
                await self._load(endpoint)

    async def _load(self, endpoint: Row[*tuple[Any, ...]]) -> str | None:
        """Load one endpoint's model; what went wrong, if anything."""
        error = None
        try:
            await self.models.load(self._wanted(endpoint))
        except SextantError as failure:
            error = failure.message
        except Exception as failure:
            log.exception("endpoint.load_failed", endpoint=endpoint.name)
            error = f"{type(failure).__name__} while the model was loaded"
        state = "FAILED" if error else "READY"
        await self.transact(lambda conn: store.observed(conn, endpoint, state, error, self.worker))
        log.info("endpoint.observed", endpoint=endpoint.name, generation=endpoint.generation, state=state)
        return error

    def _wanted(self, endpoint: Row[*tuple[Any, ...]]) -> Wanted:
        directory: Path = self.artefacts.fetch(prefix_of(endpoint.model_job_id, endpoint.fence), files_of(endpoint))
        return Wanted(
            tenant=endpoint.tenant,
            endpoint=endpoint.name,
            generation=endpoint.generation,
            version=endpoint.version,
            directory=directory,
            max_batch_size=int(endpoint.settings.get("max_batch_size", 32)),
            max_wait_ms=float(endpoint.settings.get("max_wait_ms", 0.0)),
        )

    def _claim(self, conn: Connection, job_id: UUID) -> Job | None:
        event = Claim(self.worker, DEPLOY_LEASE_S)
        job, decision = jobs.apply(conn, job_id, event, actor=self.worker, rng=self.rng)
        if not isinstance(decision, Transition):
            return None
        return replace(job, state=decision.state, fence=job.fence + 1)

    async def _deploy(self, job: Job) -> None:
        model = (job.inputs or {})["model"]
        await self.transact(lambda conn: store.desire(conn, job, UUID(model["id"]), self.worker))
        name = job.spec["endpoint"]
        endpoint = next(e for e in await self.transact(store.all_desired) if e.name == name and e.tenant == job.tenant)
        error = None
        if self.models.generations().get((job.tenant, name)) != endpoint.generation:
            error = await self._load(endpoint)
        try:
            await self.transact(lambda conn: self._end(conn, job, model, error))
        except StaleFence as stale:
            log.warning("deploy.lost", job_id=str(job.id), reason=stale.message)
        await self.bus.wake()

    def _end(self, conn: Connection, job: Job, model: dict[str, Any], error: str | None) -> None:
        if error:
            event = Fail(job.fence, {"message": error}, retriable=False)
            _, decision = jobs.apply(conn, job.id, event, actor=self.worker, rng=self.rng)
            jobs.insist(decision)
            return
        outputs = {"endpoint": job.spec["endpoint"], "model": model}
        jobs.complete(conn, job.id, job.fence, files=[], outputs=outputs, actor=self.worker, rng=self.rng)
