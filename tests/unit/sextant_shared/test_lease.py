"""A supervisor stops its work in time by its own clock, whatever the store does."""

from __future__ import annotations

import threading
import time

from sextant_shared.execution.hold import MARGIN, Hold, Wish
from sextant_shared.execution.lease import Lease
from sextant_shared.lifecycle.jobs import Beat

LEASE_S = 0.6


def test_a_heartbeat_that_gets_no_answer_does_not_keep_the_work_from_being_stopped() -> None:
    asked, answered, lost = threading.Event(), threading.Event(), threading.Event()

    def beat() -> Beat:
        asked.set()
        assert answered.wait(20)
        return Beat(cancel=False, pause=False)

    def obey(wish: Wish) -> None:
        assert wish is Wish.LOST
        lost.set()

    began = time.monotonic()
    with Lease(Hold.since(began, LEASE_S), beat, obey, lambda: None) as lease:
        assert lost.wait(10)
        assert asked.is_set()
        assert not answered.is_set()
        assert time.monotonic() - began > LEASE_S * MARGIN
        answered.set()
    assert lease.wish is Wish.LOST, "an answer that comes too late changes nothing"
