"""From the claim of a 2-rank gang to its first optimizer step: from a warm zygote, and from none."""

from __future__ import annotations

import os
import signal
import statistics
import time
from typing import Any

import psutil
from sqlalchemy import Engine, create_engine, text

from sextant import Client, ProgressEvent
from tests.bench.platforms import Platform, parts
from tests.bench.report import Report

TRAIN: dict[str, Any] = {
    "kind": "train",
    "data": {"dataset": "digits"},
    "model": {"zoo": "small-cnn"},
    "config": {"epochs": 1},
    "resources": {"ranks": 2},
}


def run(report: Report) -> None:
    """Warm starts one after the other; for a cold one the zygote is killed first."""
    warm_runs, cold_runs = (4, 1) if report.quick else (15, 5)
    with parts("scheduler-api", "scheduler-control", "data-prep", "trainer") as platform, platform.client() as client:
        engine = create_engine(platform.urls.database_url)
        source = {"source": "package://sklearn/digits", "task": "image-classification", "register_as": "digits"}
        client.wait(client.submit({"kind": "prepare", **source}), timeout=60)
        _seconds(client, engine)  # the first reads the data set into the page cache
        warm = [_seconds(client, engine) for _ in range(warm_runs)]
        cold = []
        for _ in range(cold_runs):
            os.kill(_zygote(platform), signal.SIGKILL)
            time.sleep(0.5)
            cold.append(_seconds(client, engine))
        engine.dispose()
    report.figure("seconds_cold", statistics.median(cold))
    report.figure("seconds_warm", statistics.median(warm))
    report.sample("seconds_cold", cold)
    report.sample("seconds_warm", warm)
    report.note("by the machine's clock: the claim's time in the database, the step's in the rank's own report")


def _seconds(client: Client, engine: Engine) -> float:
    job = client.submit(TRAIN)
    first: float | None = None
    for event in client.stream(job):
        if first is None and isinstance(event, ProgressEvent) and event.metrics.get("step") == 1 and event.at:
            first = event.at.timestamp()
    if first is None:
        raise SystemExit(f"no report of the first step of {job.id}: {client.job(job).error}")
    query = text("SELECT extract(epoch FROM started_at) FROM attempts WHERE job_id = :id ORDER BY fence DESC LIMIT 1")
    with engine.connect() as conn:
        return first - float(conn.execute(query, {"id": job.id}).scalar_one())


def _zygote(platform: Platform) -> int:
    agent = psutil.Process(platform.pids["trainer"])
    return next(int(child.pid) for child in agent.children() if "sextant_trainer.zygote" in child.cmdline())
