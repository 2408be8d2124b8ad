"""The notary process's loop: seals what waits, each second, and stands still where the log is not what it signed."""

from __future__ import annotations

import threading
import time

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from sextant_scheduler.handlers.notary import BATCH, Notary, Refused, Seals
from sextant_scheduler.metrics import NotaryMetrics
from sextant_shared.faults import NO_FAULTS, Faults, Point

log = structlog.get_logger(__name__)

EVERY_S = 1.0
AGAIN_S = 5.0
"""How soon it is tried again after a failure."""


class NotaryLoop:
    """Runs until stopped."""

    def __init__(self, engine: Engine, seals: Seals, metrics: NotaryMetrics, faults: Faults = NO_FAULTS) -> None:
        self._engine = engine
        self._faults = faults
        self._seals = seals
        self._metrics = metrics
        self._stopping = threading.Event()
        self._wrong: str | None = "starting"

    def stop(self) -> None:
        """End after the batch at hand."""
        self._stopping.set()

    def unready(self) -> str | None:
        """What keeps this process from its work, if anything."""
        return self._wrong

    def run(self) -> None:
        """Seal until `stop`."""
        while not self._stopping.is_set():
            try:
                self._seal_all()
            except Refused as refusal:
                self._wrong = str(refusal)
                log.error("notary.refuses", reason=self._wrong)
            except (SQLAlchemyError, OSError) as error:
                self._wrong = f"the store cannot be reached: {type(error).__name__}"
                log.warning("notary.store_unavailable", error=type(error).__name__)
            self._stopping.wait(AGAIN_S)

    def _seal_all(self) -> None:
        """From a new look at the log on, so that no doubt is left after a failure of whether a batch was committed."""
        began = time.monotonic()
        with self._engine.begin() as conn:
            notary = Notary(conn, self._seals)
        log.info("notary.ready", sealed=notary.size, seconds=round(time.monotonic() - began, 3))
        self._wrong = None
        while not self._stopping.is_set():
            with self._engine.begin() as conn:
                sealed = notary.seal(conn)
                if sealed is not None:
                    self._faults.reach(Point.SEAL_WRITTEN)
            if sealed is not None:
                self._faults.reach(Point.SEAL_COMMITTED)
                notary.publish(sealed)
            self._metrics.sealed.set(notary.size)
            if sealed is None or sealed.rows < BATCH:
                self._stopping.wait(EVERY_S)
