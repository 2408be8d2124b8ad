"""Batching for one model: what waits while a batch runs goes into the next one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sextant_shared.errors import RateLimited

Tensors = dict[str, NDArray[Any]]
Run = Callable[[Tensors], list[NDArray[Any]]]
Observe = Callable[[int, float, float], None]
"""(rows, seconds waited by the oldest, seconds of the run)."""


@dataclass(slots=True)
class Waiting:
    """One request in the queue."""

    tensors: Tensors
    rows: int
    answer: asyncio.Future[list[NDArray[Any]]]
    since: float = field(default_factory=time.perf_counter)


class Batcher:
    """A queue and the task that empties it. Requests keep their order; one alone, on an idle model, never waits
    longer than `max_wait_s`, which is 0 unless the endpoint asks for more."""

    def __init__(
        self,
        run: Run,
        executor: Executor,
        *,
        max_rows: int,
        max_wait_s: float,
        observe: Observe,
        max_queued: int = 4096,
    ) -> None:
        self._run = run
        self._executor = executor
        self._max_rows = max_rows
        self._max_wait_s = max_wait_s
        self._observe = observe
        self._max_queued = max_queued
        self._queue: deque[Waiting] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def infer(self, tensors: Tensors) -> list[NDArray[Any]]:
        """The outputs for one request's rows. Raises RateLimited when the queue is full."""
        if len(self._queue) >= self._max_queued:
            raise RateLimited("too many requests wait for this model")
        rows = len(next(iter(tensors.values())))
        waiting = Waiting(tensors, rows, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await waiting.answer

    async def drained(self) -> None:
        """Wait until all that was asked is answered."""
        while self._queue or (self._task and not self._task.done()):
            if self._task:
                await asyncio.wait([self._task])

    async def _work(self) -> None:
        while self._queue:
            await self._wait_for_company()
            batch = self._take()
            if batch:
                await self._answer(batch)

    async def _wait_for_company(self) -> None:
        until = self._queue[0].since + self._max_wait_s
        while sum(item.rows for item in self._queue) < self._max_rows:
            left = until - time.perf_counter()
            if left <= 0:
                return
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _take(self) -> list[Waiting]:
        batch: list[Waiting] = []
        rows = 0
        while self._queue and (not batch or rows + self._queue[0].rows <= self._max_rows):
            item = self._queue.popleft()
            if item.answer.cancelled():
                continue
            batch.append(item)
            rows += item.rows
        return batch

    async def _answer(self, batch: list[Waiting]) -> None:
        began = time.perf_counter()
        tensors = {name: _joined([item.tensors[name] for item in batch]) for name in batch[0].tensors}
        try:
            outputs = await asyncio.get_running_loop().run_in_executor(self._executor, self._run, tensors)
        except Exception as error:  # noqa: BLE001 - each request must get its answer, whatever the runtime raised
            for item in batch:
                if not item.answer.done():
                    item.answer.set_exception(error)
            return
        rows = sum(item.rows for item in batch)
        self._observe(rows, began - batch[0].since, time.perf_counter() - began)
        start = 0
        for item in batch:
            if not item.answer.done():
                item.answer.set_result([output[start : start + item.rows] for output in outputs])
            start += item.rows


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
