"""What a key and a tenant may take: requests a second, open jobs, live streams."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil

from sqlalchemy import Connection, func, select

from sextant_scheduler.settings import SchedulerSettings
from sextant_shared.contracts.specs import JobSpec, PipelineSpec, TuneSpec
from sextant_shared.errors import QuotaExceeded, RateLimited
from sextant_shared.store import tables as t

REMEMBERED = 10_000
COUNTED_FOR_S = 10.0
COUNT_EVERY_S = 1.0
BUSY_S = 5


def size(spec: JobSpec) -> int:
    """How many jobs a spec makes at a time: itself, and its steps or those of its trials that run together."""
    if isinstance(spec, PipelineSpec):
        return 1 + sum(size(step) for step in spec.steps.values())
    return 1 + min(spec.trials, spec.parallel) if isinstance(spec, TuneSpec) else 1


class Rates:
    """A token bucket a key: `rate` requests a second, and as many at once after a second of none."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._most = max(1.0, rate)
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}

    def take(self, key: str) -> None:
        """Count one request. Raises RateLimited where the key has made too many."""
        now = self._clock()
        tokens, then = self._buckets.get(key, (self._most, now))
        tokens = min(self._most, tokens + (now - then) * self._rate)
        if tokens < 1.0:
            self._buckets[key] = tokens, now
            wait = ceil((1.0 - tokens) / self._rate)
            raise RateLimited(f"this key may make {self._rate:g} requests a second; try again", retry_after_s=wait)
        if key not in self._buckets and len(self._buckets) >= REMEMBERED:
            self._buckets.clear()
        self._buckets[key] = tokens - 1.0, now


@dataclass(slots=True)
class _Open:
    """The open jobs of a tenant: as counted in the store, and what this process accepted since."""

    counted: int
    at: float
    since: int = 0


class Quotas:
    """Open jobs are counted in the store at most once a second a tenant, and what was accepted is added: exact with one
    API process; each further one may let in what it accepts between two counts, a minute apart at the most.
    """

    def __init__(
        self, settings: SchedulerSettings, read: Callable[[Callable[[Connection], int]], Awaitable[int]]
    ) -> None:
        """`read` runs a query on the store."""
        self._settings = settings
        self._read = read
        self._open: dict[str, _Open] = {}
        self._streams: Counter[str] = Counter()
        self._counting = asyncio.Lock()

    async def admit(self, tenant: str, number: int) -> None:
        """Count `number` jobs as open. Raises QuotaExceeded where the tenant would have more than it may."""
        most = self._settings.max_open_jobs
        now, known = time.monotonic(), self._open.get(tenant)
        had = known.counted + known.since + number if known else most
        # The nearer to the limit, the fresher.
        kept_s = COUNT_EVERY_S if had > most else COUNTED_FOR_S if 2 * had > most else 6 * COUNTED_FOR_S
        if known is None or now - known.at >= kept_s:
            known = await self._count(tenant, known, most)
        if known.counted + known.since + number > most:
            raise QuotaExceeded(
                f"the tenant has {known.counted + known.since} open jobs and may have {most}; this would add {number}",
                retry_after_s=BUSY_S,
            )
        known.since += number

    async def _count(self, tenant: str, known: _Open | None, most: int) -> _Open:
        async with self._counting:
            fresh = self._open.get(tenant)
            if fresh is not None and fresh is not known:
                return fresh  # another request has counted meanwhile
            at = time.monotonic()
            counted = await self._read(lambda conn: open_jobs(conn, tenant, most + 1))
            self._open[tenant] = fresh = _Open(counted, at)
            return fresh

    def check_stream(self, tenant: str) -> None:
        """Raise QuotaExceeded where the tenant has as many live streams as it may."""
        most = self._settings.max_streams
        if self._streams[tenant] >= most:
            raise QuotaExceeded(
                f"the tenant has {most} live streams open, which is as many as it may", retry_after_s=BUSY_S
            )

    @contextmanager
    def stream(self, tenant: str) -> Iterator[None]:
        """Count a live stream while it lasts."""
        self._streams[tenant] += 1
        try:
            yield
        finally:
            self._streams[tenant] -= 1


def open_jobs(conn: Connection, tenant: str, most: int) -> int:
    """The tenant's jobs that have not ended, counted up to `most`."""
    found = select(t.jobs.c.id).where(t.jobs.c.tenant == tenant, t.jobs.c.finished_at.is_(None)).limit(most)
    return int(conn.execute(select(func.count()).select_from(found.subquery())).scalar_one())
