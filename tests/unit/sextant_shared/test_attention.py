"""A worker that takes nothing although something waits is noticed; one that works, or has nothing to do, is not."""

from __future__ import annotations

import threading
import time

from sextant_shared.execution.attention import Attention


def watched(attention: Attention, told: threading.Event, seconds: float) -> bool:
    """Whether it is told so within some seconds."""
    attention.start()
    found = told.wait(seconds)
    attention.stop()
    return found


def test_a_worker_that_takes_nothing_of_what_waits_is_deaf() -> None:
    told = threading.Event()
    assert watched(Attention(lambda: True, told.set, every_s=0.05, after_s=0.2), told, 10)


def test_where_nothing_waits_or_nobody_can_tell_it_is_not() -> None:
    def away() -> bool:
        raise OSError("the broker is away")

    for waiting in (lambda: False, away):
        told = threading.Event()
        assert not watched(Attention(waiting, told.set, every_s=0.02, after_s=0.1), told, 0.6)


def test_a_worker_that_works_or_works_again_and_again_is_not_deaf() -> None:
    told = threading.Event()
    attention = Attention(lambda: True, told.set, every_s=0.02, after_s=0.5)
    attention.start()
    with attention.working():
        time.sleep(0.8)
    for _ in range(8):
        time.sleep(0.1)
        with attention.working():
            pass
    assert not told.is_set()
    attention.stop()
