"""The tuner's loop: woken by what becomes of trials, and by the clock."""

from __future__ import annotations

import asyncio
import time
from random import Random

import structlog
from prometheus_client import CollectorRegistry, Gauge, Histogram
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_shared.bus import Bus
from sextant_shared.contracts.messages import JobEvent
from sextant_shared.faults import NO_FAULTS, Faults, Point
from sextant_tuner import store

log = structlog.get_logger(__name__)
SWEEP_EVERY_S = 5.0
ROUND_SECONDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)


class TunerLoop:
    """Runs until stopped. Optuna is loaded with the first search: an idle tuner is small."""

    def __init__(
        self, engine: AsyncEngine, bus: Bus, rng: Random, registry: CollectorRegistry, faults: Faults = NO_FAULTS
    ) -> None:
        self._engine, self._bus, self._rng, self._faults = engine, bus, rng, faults
        self._open = Gauge("sextant_searches_open", "Searches that have not ended", registry=registry)
        self._seconds = Histogram(
            "sextant_search_round_seconds", "Time to advance one search", buckets=ROUND_SECONDS, registry=registry
        )
        self._wake = asyncio.Event()
        self._stopping = False
        self._last_round = 0.0

    def stop(self) -> None:
        """End after the round at hand."""
        self._stopping = True
        self._wake.set()

    def unready(self) -> str | None:
        """What keeps this process from its work, if anything."""
        return None if self._last_round else "no round has succeeded yet"

    async def run(self) -> None:
        """Work until `stop`."""
        await self._bus.subscribe("jobs.train.>", self._on_event)
        await self._bus.subscribe("jobs.tune.>", self._on_event)
        while not self._stopping:
            self._wake.clear()
            try:
                await self._round()
                self._last_round = time.monotonic()
            except (SQLAlchemyError, OSError) as error:
                log.warning("tuner.store_unavailable", error=type(error).__name__)
            try:
                await asyncio.wait_for(self._wake.wait(), SWEEP_EVERY_S)
            except TimeoutError:
                continue

    async def _round(self) -> None:
        async with self._engine.connect() as conn:
            searches = await conn.run_sync(store.open_searches)
        self._open.set(len(searches))
        for job_id in searches:
            from sextant_tuner import handlers

            with self._seconds.time():
                async with self._engine.begin() as conn:
                    acted = await conn.run_sync(handlers.advance, job_id, self._rng)
                    if acted:
                        self._faults.reach(Point.SEARCH_DECIDED)
            if acted:
                self._faults.reach(Point.SEARCH_COMMITTED)
                await self._bus.wake()

    async def _on_event(self, subject: str, payload: bytes) -> None:
        try:
            event = JobEvent.model_validate_json(payload)
        except ValidationError:
            return
        if event.kind == "tune" or event.parent_id is not None:
            self._wake.set()
