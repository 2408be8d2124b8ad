"""The control process's loop: woken by messages, and by the clock in case one was lost."""

from __future__ import annotations

import asyncio
import time
from uuid import UUID

import structlog
from nats.errors import Error as NatsError
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from sextant_scheduler.handlers import control as handlers
from sextant_scheduler.handlers.control import Control
from sextant_scheduler.metrics import ControlMetrics
from sextant_scheduler.store import control as store
from sextant_shared.bus import EVENTS_KEPT_S
from sextant_shared.contracts.messages import MEMBERSHIP, WAKE, NodeAlive, Wake

log = structlog.get_logger(__name__)

REPAIR_EVERY_S = 1.0
SWEEP_EVERY_S = 5.0
REPLIES_KEPT_S = 7 * 24 * 3600.0
"""How long a call other than a submission may be repeated under its idempotency key."""
TRIM_BATCH = 5000
NODE_FORGOTTEN_S = 24 * 3600.0


class ControlLoop:
    """Runs until stopped. Wakes are merged: many at once cost one round."""

    def __init__(self, control: Control, metrics: ControlMetrics) -> None:
        self._control = control
        self._metrics = metrics
        self._wake = asyncio.Event()
        self._announced: list[tuple[UUID, str]] = []
        self._stopping = False
        self._last_round = 0.0

    def stop(self) -> None:
        """End after the round at hand."""
        self._stopping = True
        self._wake.set()

    def unready(self) -> str | None:
        """What keeps this process from its work, if anything."""
        if not self._control.bus.connected:
            return "NATS is not reachable"
        if time.monotonic() - self._last_round > 10 * SWEEP_EVERY_S or not self._last_round:
            return "no round has succeeded lately"
        return None

    async def run(self) -> None:
        """Subscribe, then work until `stop`."""
        # One copy acts on a wake; were it to hang, the others' clocks make up for it.
        await self._control.bus.subscribe(WAKE, self._on_wake, group="control")
        await self._control.bus.subscribe(MEMBERSHIP, self._on_membership)
        swept = repaired = 0.0
        streams_ready = False
        while not self._stopping:
            now = time.monotonic()
            sweep, repair = now - swept >= SWEEP_EVERY_S, now - repaired >= REPAIR_EVERY_S
            try:
                if sweep or not streams_ready:
                    streams_ready = await self._ensure_streams()
                await self._round(sweep=sweep, repair=repair or sweep)
                swept, repaired = (now if sweep else swept), (now if repair or sweep else repaired)
                self._last_round = time.monotonic()
            except (SQLAlchemyError, OSError) as error:
                log.warning("control.store_unavailable", error=type(error).__name__, reason=_reason(error))
                await asyncio.sleep(0.5)
            await self._sleep(REPAIR_EVERY_S)

    async def _ensure_streams(self) -> bool:
        try:
            if again := await handlers.ensure_streams(self._control):
                log.warning("control.events_lost", published_again=again)
        except (NatsError, TimeoutError, OSError) as error:
            log.warning("control.nats_unavailable", error=str(error) or type(error).__name__)
            return False
        return True

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return
        self._wake.clear()

    async def _round(self, *, sweep: bool, repair: bool) -> None:
        if repair:
            self._metrics.repaired(await handlers.repair(self._control))
            if recalled := await handlers.recall(self._control):
                log.warning("control.messages_lost", sent_again=recalled)
            if roused := await handlers.rouse(self._control):
                log.info("control.queues_empty", sent_again=roused)
        # Dispatch comes before the relay: a job's way to its worker is what people wait for.
        announced, self._announced = self._announced, []
        sent = await handlers.dispatch(self._control, announced)
        await handlers.place_gangs(self._control)
        touched = await handlers.relay(self._control)
        await handlers.mark_dispatched(self._control, sent)
        changed = await handlers.advance_pipelines(self._control, None if sweep else touched)
        if touched or changed:
            self._wake.set()
        if sweep:
            await self._control.transact(lambda conn: store.trim_outbox(conn, EVENTS_KEPT_S, TRIM_BATCH))
            await self._control.transact(lambda conn: store.trim_replies(conn, REPLIES_KEPT_S, TRIM_BATCH))
            timeout_s = self._control.settings.node_timeout_s
            await self._control.transact(lambda conn: store.mark_silent(conn, timeout_s, NODE_FORGOTTEN_S))
            await self._measure()

    async def _measure(self) -> None:
        lag = await self._control.transact(store.outbox_lag)
        counts = await self._control.transact(store.counts_by_state)
        self._metrics.update(lag, counts)

    async def _on_wake(self, subject: str, payload: bytes) -> None:
        if payload:
            try:
                self._announced += Wake.model_validate_json(payload).queued
            except ValidationError as error:
                log.warning("wake.bad_message", error=str(error)[:300])
        self._wake.set()

    async def _on_membership(self, subject: str, payload: bytes) -> None:
        try:
            alive = NodeAlive.model_validate_json(payload)
        except ValidationError as error:
            log.warning("membership.bad_message", error=str(error)[:300])
            return
        await self._control.transact(lambda conn: store.record_node(conn, alive))
        self._wake.set()


def _reason(error: Exception) -> str:
    # A right that is missing is told by the database's own words; the statement would be long.
    return str(getattr(error, "orig", error)).partition("\n")[0][:200]
