"""A worker that has gone deaf: its process lives, messages wait in its queues, it has nothing to do, and takes none.

Celery's consumer can lose its connection to Redis so and never notice (its issues 8030, 8091 and 10205; seen here with
5.7.0, after a kill -9 of the server). What helps for certain is another process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

log = structlog.get_logger(__name__)
LOOK_EVERY_S = 1.0
DEAF_AFTER_S = 4.0
"""A worker that listens takes a waiting message within milliseconds."""


class Attention:
    """Watches whether a worker takes what waits for it; calls `deaf` where it does not."""

    def __init__(
        self,
        waiting: Callable[[], bool],
        deaf: Callable[[], None],
        *,
        every_s: float = LOOK_EVERY_S,
        after_s: float = DEAF_AFTER_S,
    ) -> None:
        """`waiting` tells whether there is a message for the worker; it may raise where the broker is away."""
        self._waiting, self._deaf = waiting, deaf
        self._every_s, self._after_s = every_s, after_s
        self._lock = threading.Lock()
        self._busy = 0
        self._attentive = time.monotonic()
        self._over = threading.Event()

    @contextmanager
    def working(self) -> Iterator[None]:
        """While the worker has a message in hand."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._attentive = time.monotonic()

    def start(self) -> None:
        """Watch, in a thread of its own, from now on."""
        self._attentive = time.monotonic()
        threading.Thread(target=self._watch, name="attention", daemon=True).start()

    def stop(self) -> None:
        """Watch no more: the worker takes nothing because it is to end."""
        self._over.set()

    def _watch(self) -> None:
        looked = time.monotonic()
        while not self._over.wait(self._every_s):
            now = time.monotonic()
            # Whoever was frozen meanwhile begins to listen again only now.
            frozen, looked = now - looked > 2 * self._every_s, now
            if self._busy or frozen or not self._something_waits():
                self._attentive = time.monotonic()
            elif time.monotonic() - self._attentive > self._after_s and not self._over.is_set():
                log.error("worker.deaf", silent_s=round(time.monotonic() - self._attentive, 1))
                self._deaf()
                return

    def _something_waits(self) -> bool:
        try:
            return self._waiting()
        except Exception as error:  # noqa: BLE001 - whatever it was, nothing is known to wait
            log.debug("attention.broker_unavailable", error=str(error))
            return False
