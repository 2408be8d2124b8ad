"""Threads that work on what comes next: parsing, cleaning and writing go on at the same time, in the source's order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(source: Iterator[T]) -> Iterator[T]:
    """The items of `source`, the next of which is made while one is worked on. At most two are held."""
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as pool:
        waiting = pool.submit(next, source, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, source, None)
            yield item


def mapped(work: Callable[[T], R], source: Iterator[T], threads: int) -> Iterator[R]:
    """What `work` makes of each item, in order; up to `threads` items are worked on at a time."""
    with ThreadPoolExecutor(threads, thread_name_prefix="worker") as pool:
        running: deque[Future[R]] = deque()
        for item in source:
            running.append(pool.submit(work, item))
            if len(running) > threads:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
