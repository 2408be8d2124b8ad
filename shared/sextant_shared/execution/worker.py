"""A Celery worker process: its settings read, its parts made, its jobs run, drained on SIGTERM."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

import structlog
from celery import Celery
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from prometheus_client import CollectorRegistry

from sextant_shared import queue
from sextant_shared.artefacts import Artefacts
from sextant_shared.bus import ThreadedBus
from sextant_shared.execution.attention import Attention
from sextant_shared.execution.identity import WorkerLock
from sextant_shared.execution.launching import Launcher, ProcessLauncher
from sextant_shared.execution.measures import Measures
from sextant_shared.execution.probe import ProbeLauncher
from sextant_shared.execution.supervisor import Supervisor
from sextant_shared.execution.workshop import Workshop
from sextant_shared.lifecycle.machine import Job
from sextant_shared.settings import Settings
from sextant_shared.store.engine import connect
from sextant_shared.telemetry import configure_logging, serve_operations

log = structlog.get_logger(__name__)


def build_workshop(
    settings: Settings,
    worker: str,
    registry: CollectorRegistry,
    launchers: dict[str, Launcher],
    service: Callable[[Job], dict[str, str]] = lambda job: {},
) -> Workshop:
    """The parts that a supervisor needs, from a service's settings."""
    return Workshop(
        engine=connect(settings.database_url),
        artefacts=Artefacts(settings.artefacts_url, settings.work_dir / "cache"),
        bus=ThreadedBus(settings.nats_url, worker),
        directory=settings.work_dir / "jobs",
        worker=worker,
        lease_s=settings.lease_s,
        launchers=launchers,
        service=service,
        measures=Measures(registry),
        limits=settings.limits,
        user_code=settings.user_code,
    )


def lock_worker(work_dir: Path, worker: str) -> WorkerLock:
    """Wait until an earlier process of this worker, and all it started, is gone; keep the lock while this one lives."""
    lock = WorkerLock(work_dir / "locks", worker)
    lock.acquire()
    return lock


def run_worker(
    settings: Settings,
    *,
    service: str,
    module: str,
    kinds: Sequence[str],
    job_service: Callable[[Job], dict[str, str]] = lambda job: {},
    probe: Launcher | None = None,
) -> None:
    """Consume the queues of `kinds` and of probes until SIGTERM; one job at a time, each in a child of its own.

    `probe` runs the probes in place of the usual launcher: a test's, that notes what they do.
    """
    configure_logging(settings.log_format, service)
    worker = f"{settings.node_name}/{service}"
    lock = lock_worker(settings.work_dir, service)
    registry = CollectorRegistry()
    launcher = ProcessLauncher(module, keep=(lock.descriptor,))
    launchers: dict[str, Launcher] = {"probe": probe or ProbeLauncher(), **dict.fromkeys(kinds, launcher)}
    shop = build_workshop(settings, worker, registry, launchers, job_service)
    supervisor = Supervisor(shop)
    supervisor.listen()
    supervisor.recover()
    app = queue.build_queue(settings.redis_url)
    queues = [*kinds, "probe"]
    attention = Attention(lambda: bool(queue.waiting(app, queues)), lambda: os._exit(1))
    _register(app, supervisor, attention)
    ready = threading.Event()

    def on_ready(**_: object) -> None:
        ready.set()
        attention.start()

    def on_shutdown(**_: object) -> None:
        log.info("worker.draining")
        attention.stop()
        supervisor.drain()

    worker_ready.connect(on_ready, weak=False)
    worker_shutting_down.connect(on_shutdown, weak=False)
    operations = serve_operations(
        settings.bind, settings.metrics_port, registry, lambda: None if ready.is_set() else "starting"
    )
    # Celery warns of root and pickle together; only JSON is accepted here.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    consumer = app.Worker(
        pool="threads",
        concurrency=1,
        queues=queues,
        hostname=f"{service}@{settings.node_name}",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="WARNING",
        quiet=True,
    )
    consumer.start()
    shop.bus.close()
    shop.engine.dispose()
    if operations:
        operations.close()


def _register(app: Celery, supervisor: Supervisor, attention: Attention) -> None:
    @app.task(name=queue.TASK)  # type: ignore[untyped-decorator]
    def run(job_id: str) -> None:
        with attention.working():
            supervisor.run_next(UUID(job_id))
