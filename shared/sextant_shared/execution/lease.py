"""The supervisor's hold on a job: heartbeats in a thread, and the stop when the lease is lost or the owner wants it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context

import structlog

from sextant_shared.errors import StaleFence
from sextant_shared.execution.hold import Hold, Wish
from sextant_shared.lifecycle.jobs import Beat

log = structlog.get_logger(__name__)


class Lease:
    """Beats every third of the lease, and soon after `hurry`; `on_wish` is called once for each new wish, on one of
    the lease's threads: a heartbeat that gets no answer must not keep the other from stopping the work in time.
    """

    def __init__(
        self, hold: Hold, beat: Callable[[], Beat], on_wish: Callable[[Wish], None], tick: Callable[[], None]
    ) -> None:
        self._hold = hold
        self._beat = beat
        self._on_wish = on_wish
        self._tick = tick
        self._over = threading.Event()
        self._hurried = threading.Event()
        self._wish = Wish.GO_ON
        self._wishing = threading.Lock()
        self._threads: list[threading.Thread] = []

    @property
    def wish(self) -> Wish:
        """The last wish."""
        return self._wish

    def hurry(self) -> None:
        """Ask the store soon what the owner wants, instead of at the next beat; returns at once."""
        self._hurried.set()

    def wish_for(self, wish: Wish) -> None:
        """Tell the work, once, what has to become of it; LOST overrides everything."""
        with self._wishing:
            if wish is self._wish or self._wish is Wish.LOST:
                return
            self._wish = wish
        self._on_wish(wish)

    def insist(self) -> None:
        """Raise StaleFence where the lease may have run out: whoever was stopped for long must not begin."""
        if self._hold.is_lost(time.monotonic()):
            raise StaleFence("the lease ran out before the work began")

    def __enter__(self) -> Lease:
        # In the context of whoever runs the work, so that the logs of both name the same job.
        for name, run in (("lease", self._keep), ("lease-watch", self._watch)):
            thread = threading.Thread(target=copy_context().run, args=(run,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _passes(self) -> Iterator[float]:
        """The time, now and then, until all is over or the lease is lost."""
        while not self._over.wait(min(0.25, self._hold.lease_s / 6)) and self._wish is not Wish.LOST:
            yield time.monotonic()

    def _watch(self) -> None:
        for now in self._passes():
            if self._hold.is_lost(now):
                self.wish_for(Wish.LOST)

    def _keep(self) -> None:
        for now in self._passes():
            # Whoever was stopped for long asks nobody any more.
            if not self._hold.is_lost(now) and (self._hold.is_due(now) or self._hurried.is_set()):
                self._hurried.clear()
                self._beat_once()
            self._tick()

    def _beat_once(self) -> None:
        sent = time.monotonic()
        self._hold.sending(sent)
        try:
            beat = self._beat()
        except StaleFence:
            self.wish_for(Wish.LOST)
            return
        except Exception as error:  # noqa: BLE001
            # Whatever it was, the store may be away for a moment; the deadline decides how long that may last.
            log.warning("lease.heartbeat_failed", error=str(error))
            return
        self._hold.extended(sent)
        if beat.cancel:
            self.wish_for(Wish.CANCEL)
        elif beat.pause:
            self.wish_for(Wish.PAUSE)
