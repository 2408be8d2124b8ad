"""From submission to the claim on an idle system, beside a bare Celery hop; and probes a second through one worker."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis
from sqlalchemy import Engine, create_engine, text

from sextant import Client
from tests.bench import celery_hop
from tests.bench.platforms import Platform, parts
from tests.bench.report import Report, percentile

QUIET_S = 0.05
"""Nobody asks for the job meanwhile: an observer would compete for the cores with what is observed."""


def run(report: Report) -> None:
    """Hops of both alternate, one at a time; then a burst of probes is drained by the one worker."""
    hops, probes = (40, 200) if report.quick else (200, 1000)
    with (
        parts("scheduler-api", "scheduler-control", "data-prep") as platform,
        _celery_worker(platform) as hop,
        platform.client() as client,
    ):
        engine = create_engine(platform.urls.database_url)
        celery_ms: list[float] = []
        ids: list[str] = []
        for number in range(hops + 5):
            taken = hop()
            job = client.submit({"kind": "probe"})
            time.sleep(QUIET_S)
            client.wait(job, timeout=30)
            if number >= 5:  # the first warm both up
                celery_ms.append(taken)
                ids.append(str(job.id))
            time.sleep(0.02)
        ours_ms = _claimed_after_ms(engine, ids)
        rate = _drain(client, engine, probes)
        engine.dispose()
    report.figure("p50_ms", statistics.median(ours_ms))
    report.figure("p99_ms", percentile(ours_ms, 0.99))
    report.figure("celery_p50_ms", statistics.median(celery_ms))
    report.figure("celery_p99_ms", percentile(celery_ms, 0.99))
    report.figure("ratio_p50", statistics.median(ours_ms) / statistics.median(celery_ms))
    report.figure("jobs_per_second", rate)
    report.sample("p50_ms", ours_ms)
    report.sample("celery_ms", celery_ms)
    report.note("ours: from the job's durable row to the worker's durable claim, by the database's clock")
    report.note(
        "celery: from send_task to the first line of the task, same broker and settings, by the machine's clock"
    )


def _claimed_after_ms(engine: Engine, ids: list[str]) -> list[float]:
    query = text(
        "SELECT extract(epoch FROM a.started_at - j.created_at) * 1000 FROM jobs j JOIN attempts a ON a.job_id = j.id"
        " WHERE j.id::text = ANY(:ids) AND a.fence = 1 ORDER BY j.id"
    )
    with engine.connect() as conn:
        return [float(value) for value in conn.execute(query, {"ids": ids}).scalars()]


def _drain(client: Client, engine: Engine, probes: int) -> float:
    """Jobs a second, from the first submission to the last success, by the database's clock."""
    jobs = client.submit_many([{"kind": "probe"}] * probes)
    last = jobs[-1]
    client.wait(last, timeout=300)
    query = text(
        "SELECT count(*) FILTER (WHERE state = 'SUCCEEDED'),"
        " extract(epoch FROM max(finished_at) - min(created_at)) FROM jobs WHERE id >= :first"
    )
    for _ in range(600):
        with engine.connect() as conn:
            done, seconds = conn.execute(query, {"first": min(job.id for job in jobs)}).one()
        if done >= probes:
            return probes / float(seconds)
        time.sleep(0.1)
    raise SystemExit(f"only {done} of {probes} probes ended")


@contextmanager
def _celery_worker(platform: Platform) -> Iterator[celery_hop.Hop]:
    """A worker with the same settings whose task only notes the time."""
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.celery_hop", platform.urls.redis_url])
    url = platform.urls.redis_url.replace("redis+socket", "unix")
    notes = redis.Redis.from_url(url)
    try:
        yield celery_hop.hop(platform.urls.redis_url, notes)
    finally:
        notes.close()
        process.terminate()
        process.wait()
