"""Durable submissions through the API with 16 clients, against the floor measured in the same run."""

from __future__ import annotations

import asyncio
import json
import statistics
from uuid import uuid4

from sqlalchemy import create_engine, text

from tests.bench import floor, peers
from tests.bench.closed_loop import Outcome, closed_loop
from tests.bench.platforms import Platform, parts
from tests.bench.report import Report, percentile

CLIENTS = 16
OPTIONS = {"peers": "Ray Jobs and MLflow beside ours; takes some minutes"}


def run(report: Report) -> None:
    """Interleaved rounds of both, on the same PostgreSQL; the medians of the rounds count."""
    rounds, seconds = (3, 2.0) if report.quick else (7, 5.0)
    with parts("scheduler-api") as platform:
        _assert_durable(platform)
        with floor.serving(platform.urls.database_url) as floor_url:
            ours: list[Outcome] = []
            floors: list[Outcome] = []
            for number in range(rounds + 1):
                floor_round = _measure(floor_url, {}, seconds)
                our_round = measure(platform, seconds)
                report.say(f"round {number}: floor {floor_round.per_second:.0f}/s, ours {our_round.per_second:.0f}/s")
                if number:  # the first warms both up
                    floors.append(floor_round)
                    ours.append(our_round)
        _tell(report, ours, floors)
        report.figure("pss_mb", peers.pss_mb(platform.pids.values()))
        if "peers" in report.options:
            peers.measure(report, lambda: _measure(f"{platform.url}/v1/jobs", _headers(platform), 1.0).per_second)
        _assert_stored(platform, ours)


def _tell(report: Report, ours: list[Outcome], floors: list[Outcome]) -> None:
    rates, floor_rates = [o.per_second for o in ours], [o.per_second for o in floors]
    latencies = [1000 * s for outcome in ours for s in outcome.latencies_s]
    ratios = [a / b for a, b in zip(rates, floor_rates, strict=True)]
    report.figure("per_second", statistics.median(rates))
    report.figure("p50_ms", percentile(latencies, 0.5))
    report.figure("p99_ms", percentile(latencies, 0.99))
    report.figure("floor_per_second", statistics.median(floor_rates))
    report.figure("ratio", statistics.median(ratios))
    report.figure("failures", sum(sum(o.failures.values()) for o in [*ours, *floors]))
    report.sample("per_second", rates)
    report.sample("floor_per_second", floor_rates)
    report.sample("ratio", ratios)
    report.note("the API with authentication, validation, idempotency and audit; neither relay nor workers run")
    report.note("pss_mb: the API and the three servers")
    report.note(
        "floor: same rows and indices, one statement, FastAPI + asyncpg; fsync and synchronous_commit on for both"
    )


def measure(platform: Platform, seconds: float) -> Outcome:
    """One round of ours."""
    return _measure(f"{platform.url}/v1/jobs", _headers(platform), seconds)


def _headers(platform: Platform) -> dict[str, str]:
    return {"Authorization": f"Bearer {platform.key}", "Content-Type": "application/json"}


def _measure(url: str, headers: dict[str, str], seconds: float) -> Outcome:
    body = json.dumps({"kind": "probe"}).encode()
    run_id = uuid4().hex

    def make(number: int) -> tuple[dict[str, str], bytes]:
        return {**headers, "Idempotency-Key": f"{run_id}-{number}"}, body

    return asyncio.run(closed_loop(url, make, clients=CLIENTS, seconds=seconds, status=202))


def _assert_durable(platform: Platform) -> None:
    engine = create_engine(platform.urls.database_url)
    with engine.connect() as conn:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            value = conn.execute(text(f"SHOW {setting}")).scalar_one()
            if value != "on":
                raise SystemExit(f"{setting} is {value}: this would not measure durable submissions")
    engine.dispose()


def _assert_stored(platform: Platform, ours: list[Outcome]) -> None:
    answered = sum(len(outcome.latencies_s) for outcome in ours)
    engine = create_engine(platform.urls.database_url)
    with engine.connect() as conn:
        stored, audited, out = (
            conn.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in ("jobs", "audit", "outbox")
        )
    engine.dispose()
    if not stored == audited == out or stored < answered:
        raise SystemExit(f"{answered} answered, but {stored} jobs, {audited} audit rows, {out} outbox rows")
