"""The reconciler's loop: woken by messages about deploy jobs and endpoints, and by the clock."""

from __future__ import annotations

import asyncio

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sextant_inference.handlers import Reconciler

log = structlog.get_logger(__name__)
WAKING = ("jobs.deploy.queued.v1", "endpoints.>")


class ReconcileLoop:
    """Runs until cancelled."""

    def __init__(self, reconciler: Reconciler, every_s: float) -> None:
        self._reconciler = reconciler
        self._every_s = every_s
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Reconcile for ever."""
        for subject in WAKING:
            await self._reconciler.bus.subscribe(subject, self._on_message)
        recovered = False
        while True:
            self._wake.clear()
            try:
                if not recovered:
                    await self._reconciler.recover()
                    recovered = True
                await self._reconciler.reconcile()
            except (SQLAlchemyError, OSError) as error:
                log.warning("reconcile.store_unavailable", error=type(error).__name__)
            except Exception:
                log.exception("reconcile.failed")
            try:
                async with asyncio.timeout(self._every_s):  # wait_for may drop a cancellation on Python 3.11
                    await self._wake.wait()
            except TimeoutError:
                continue

    async def _on_message(self, subject: str, payload: bytes) -> None:
        self._wake.set()
