"""Reading one batch ahead, in a thread of its own: parsing and what is done with the rows go on at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def ahead(source: Iterator[T]) -> Iterator[T]:
    """The items of `source`, the next of which is made while one is worked on. At most two are held."""
    with ThreadPoolExecutor(1, thread_name_prefix="reader") as pool:
        waiting = pool.submit(next, source, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, source, None)
            yield item
