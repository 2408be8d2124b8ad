"""An hour of jobs on the whole platform: what of its processes and tables grows, and what is left over."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil
from sqlalchemy import Engine, create_engine, text

from tests.bench.platforms import Platform, whole
from tests.bench.report import Report, percentile

PER_SECOND = 14
"""Fifty thousand an hour."""
LOOK_EVERY_S = 10.0
WARM = 1 / 3
"""Of the looks, so many are not counted: caches fill up."""
ENDED_WITHIN_S = 120.0
OPTIONS = {"short": "a quarter of an hour in place of a whole one"}
SIZES = """
SELECT relname, pg_total_relation_size(relid) / 1048576.0, n_live_tup, n_dead_tup
FROM pg_stat_user_tables WHERE relname IN ('jobs', 'audit', 'outbox')
"""
LAG = """
SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)
FROM outbox WHERE published_at IS NULL
"""


@dataclass
class Looks:
    """What was seen from time to time, each with its moment in hours."""

    at: list[float] = field(default_factory=list)
    pss_mb: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    table_mb: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    dead_share: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    behind: list[float] = field(default_factory=list)
    lag_s: list[float] = field(default_factory=list)

    def slope(self, values: list[float]) -> float:
        """By least squares, an hour, over what is counted."""
        first = int(WARM * len(self.at))
        return statistics.linear_regression(self.at[first:], values[first:]).slope


def run(report: Report) -> None:
    """Probes at a steady rate, and a look now and then."""
    seconds, every = (45.0, 2.0) if report.quick else (900.0 if "short" in report.options else 3600.0, LOOK_EVERY_S)
    with whole() as platform:
        engine = create_engine(platform.urls.database_url)
        looks = Looks()
        submitted = _drive(report, platform, engine, looks, seconds, every)
        ended = _ended(engine, submitted)
        kept = _rows(engine)
        streams = sum(file.stat().st_size for file in (platform.home.path / "nats").rglob("*") if file.is_file())
        engine.dispose()
    slopes = {name: looks.slope(values) for name, values in looks.pss_mb.items()}
    fastest = max(slopes, key=lambda name: slopes[name])
    report.figure("jobs", submitted)
    report.figure("not_succeeded", submitted - ended)
    report.figure("pss_mb", sum(values[-1] for values in looks.pss_mb.values()))
    report.figure("pss_mb_per_hour", sum(slopes.values()))
    report.figure("fastest_mb_per_hour", slopes[fastest])
    report.figure("outbox_lag_p99_s", percentile(looks.lag_s, 0.99))
    report.figure("outbox_behind_most", max(looks.behind))
    report.figure("dead_share_most", max(max(values) for values in looks.dead_share.values()))
    for name in sorted(looks.table_mb):
        report.figure(f"{name}_bytes_a_row", 2**20 * looks.table_mb[name][-1] / max(1, kept[name]))
        report.sample(f"{name}_mb", looks.table_mb[name])
    report.figure("streams_bytes_a_job", streams / submitted)
    for name, values in looks.pss_mb.items():
        report.sample(f"{name} pss_mb", values)
    told = ", ".join(f"{name} {slopes[name]:+.1f}" for name in sorted(slopes, key=lambda name: -abs(slopes[name]))[:8])
    report.note(f"slopes of the processes' memory, MB an hour, after the first third: {told}; the fastest is {fastest}")
    report.note(f"{PER_SECOND} probes a second, submitted a second's worth at a time; a look every {every:g} s")


def _drive(report: Report, platform: Platform, engine: Engine, looks: Looks, seconds: float, every: float) -> int:
    """How many jobs were submitted."""
    submitted, began, looked, told = 0, time.monotonic(), 0.0, 0.0
    with platform.client() as client:
        while (now := time.monotonic() - began) < seconds:
            submitted += len(client.submit_many([{"kind": "probe"}] * PER_SECOND))
            if now - looked >= every:
                looked = now
                _look(platform, engine, looks, now / 3600)
            if now - told >= 60:
                told = now
                report.say(f"{now / 60:.0f} minutes, {submitted} jobs, {looks.behind[-1]:.0f} messages behind")
            time.sleep(max(0.0, began + submitted / PER_SECOND - time.monotonic()))
    return submitted


def _look(platform: Platform, engine: Engine, looks: Looks, hours: float) -> None:
    looks.at.append(hours)
    memory: dict[str, float] = defaultdict(float)
    for name, process in _family(platform):
        memory[name] += process.memory_full_info().pss / 2**20
    for name, value in memory.items():
        looks.pss_mb[name].append(value)
    with engine.connect() as conn:
        for name, size, live, dead in conn.execute(text(SIZES)):
            looks.table_mb[name].append(float(size))
            looks.dead_share[name].append(dead / max(1, live + dead))
        behind, lag = conn.execute(text(LAG)).one()
    looks.behind.append(float(behind))
    looks.lag_s.append(float(lag))


def _family(platform: Platform) -> Iterator[tuple[str, psutil.Process]]:
    """The platform's processes; under their names what PostgreSQL has started, and the trainer, whose ranks are forked
    from a child that stays."""
    for name, pid in platform.pids.items():
        process = psutil.Process(pid)
        yield name, process
        if name in ("postgres", "trainer"):
            yield from ((name, child) for child in process.children())


def _ended(engine: Engine, submitted: int) -> int:
    """How many have succeeded when nothing is left to do, or too long after."""
    until = time.monotonic() + ENDED_WITHIN_S
    while True:
        with engine.connect() as conn:
            done = int(conn.execute(text("SELECT count(*) FROM jobs WHERE state = 'SUCCEEDED'")).scalar_one())
        if done >= submitted or time.monotonic() > until:
            return done
        time.sleep(0.5)


def _rows(engine: Engine) -> dict[str, int]:
    with engine.connect() as conn:
        counts = {name: f"SELECT count(*) FROM {name}" for name in ("jobs", "audit", "outbox")}
        return {name: int(conn.execute(text(query)).scalar_one()) for name, query in counts.items()}
