"""The composition root: which process is asked for, its parts, and its way to start and stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from sextant_scheduler.settings import BackupSettings, MigrateSettings, NotarySettings, SchedulerSettings
from sextant_shared.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from sextant_scheduler.api.context import Context
    from sextant_shared.artefacts import Artefacts

log = structlog.get_logger(__name__)
USAGE = "usage: python -m sextant_scheduler api|control|notary|migrate, or backup|restore FILE"


def main(arguments: list[str]) -> int:
    """Run the process that the first argument names; the exit status."""
    roles: dict[tuple[str, int], Callable[..., None]] = {
        ("api", 0): run_api,
        ("control", 0): run_control,
        ("notary", 0): run_notary,
        ("migrate", 0): migrate,
        ("backup", 1): back_up,
        ("restore", 1): restore,
    }
    role, *rest = arguments or [""]
    if (role, len(rest)) not in roles:
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        roles[role, len(rest)](*rest)
    except (InvalidInput, Unavailable) as error:
        sys.stderr.write(f"sextant_scheduler: {error.message}\n")
        return 2
    except OperationalError as error:
        reason = str(error.orig).strip().splitlines()[0] if error.orig else "no reason given"
        sys.stderr.write(f"sextant_scheduler: SEXTANT_DATABASE_URL: the database cannot be reached: {reason}\n")
        return 1
    return 0


def run_api() -> None:
    """Serve the REST API."""
    import uvicorn
    from prometheus_client import CollectorRegistry

    from sextant_scheduler.api import application
    from sextant_shared.telemetry import configure_logging, serve_operations

    settings = SchedulerSettings.read(os.environ)
    configure_logging(settings.log_format, "scheduler-api")
    registry = CollectorRegistry()
    server: uvicorn.Server

    @asynccontextmanager
    async def connect() -> AsyncIterator[Context]:
        async with _context(settings) as made:
            # What is there now stays: a full collection need not look at it while requests wait.
            gc.collect()
            gc.freeze()
            yield made

    app = application.create(connect, registry, settings)
    config = uvicorn.Config(
        app,
        host=settings.bind,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=3,
        server_header=False,
        loop="uvloop",
        http="httptools",
    )
    server = uvicorn.Server(config)
    operations = serve_operations(
        settings.bind, settings.metrics_port, registry, lambda: None if server.started else "starting"
    )
    server.run()
    if operations:
        operations.close()


@asynccontextmanager
async def _context(settings: SchedulerSettings) -> AsyncIterator[Context]:
    import httpx

    from sextant_scheduler.api.context import Context
    from sextant_scheduler.api.fanout import Fanout
    from sextant_scheduler.api.quotas import Quotas, Rates
    from sextant_scheduler.api.submissions import IN_FLIGHT, Submissions
    from sextant_shared.artefacts import Artefacts
    from sextant_shared.bus import Bus
    from sextant_shared.store.engine import connect_async, connect_autocommit

    engine = connect_async(settings.database_url, size=8)
    submitting = connect_autocommit(settings.database_url, size=IN_FLIGHT)
    bus = await Bus.connect(settings.nats_url, "scheduler-api")
    fanout = Fanout()
    await fanout.start(bus)
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)

    async def read(query: Callable[[Connection], int]) -> int:
        async with engine.connect() as conn:
            return await conn.run_sync(query)

    async with httpx.AsyncClient(base_url=settings.inference_url, timeout=60, limits=limits) as inference:
        yield Context(
            engine=engine,
            bus=bus,
            artefacts=Artefacts(settings.artefacts_url, settings.work_dir / "cache"),
            submissions=Submissions(submitting, bus),
            fanout=fanout,
            inference=inference,
            settings=settings,
            rates=Rates(settings.key_rate),
            quotas=Quotas(settings, read),
        )
    await bus.close()
    await submitting.dispose()
    await engine.dispose()


def run_control() -> None:
    """Relay, dispatch, place and repair."""
    import uvloop

    uvloop.run(_control(SchedulerSettings.read(os.environ)))


async def _control(settings: SchedulerSettings) -> None:
    from prometheus_client import CollectorRegistry

    from sextant_scheduler.consumer import ControlLoop
    from sextant_scheduler.handlers.control import Control
    from sextant_scheduler.metrics import ControlMetrics
    from sextant_shared.bus import Bus
    from sextant_shared.queue import build_queue
    from sextant_shared.store.engine import connect_async, connect_autocommit
    from sextant_shared.telemetry import configure_logging, serve_operations

    configure_logging(settings.log_format, "scheduler-control")
    registry = CollectorRegistry()
    engine = connect_async(settings.database_url, size=2)
    bus = await Bus.connect(settings.nats_url, "scheduler-control")
    statements = connect_autocommit(settings.database_url, size=1)
    control = Control(engine, statements, bus, build_queue(settings.redis_url), settings, Random())
    loop = ControlLoop(control, ControlMetrics(registry))
    operations = serve_operations(settings.bind, settings.metrics_port, registry, loop.unready)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, loop.stop)
    await loop.run()
    await bus.close()
    await statements.dispose()
    await engine.dispose()
    if operations:
        operations.close()


def run_notary() -> None:
    """Seal the audit log."""
    from prometheus_client import CollectorRegistry

    from sextant_scheduler.handlers.notary import Seals
    from sextant_scheduler.metrics import NotaryMetrics
    from sextant_scheduler.notary_loop import NotaryLoop
    from sextant_shared.store.engine import connect
    from sextant_shared.telemetry import configure_logging, serve_operations

    settings = NotarySettings.read(os.environ)
    configure_logging(settings.log_format, "scheduler-notary")
    registry = CollectorRegistry()
    engine = connect(settings.database_url, size=1)
    loop = NotaryLoop(engine, Seals(settings.notary_dir), NotaryMetrics(registry))
    operations = serve_operations(settings.bind, settings.metrics_port, registry, loop.unready)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: loop.stop())
    loop.run()
    engine.dispose()
    if operations:
        operations.close()


def migrate() -> None:
    """Bring the database to the newest version, make the services' roles, and insert the first keys."""
    from sextant_migrations import chain, roles
    from sextant_shared.security import Secret, store_key
    from sextant_shared.store.engine import connect

    settings = MigrateSettings.read(os.environ)
    passwords = roles.parse(settings.roles)
    engine = connect(settings.database_url)
    with engine.begin() as conn:
        chain.upgrade(conn)
        roles.apply(conn, passwords)
    with engine.begin() as conn:
        for name, key, scopes in (
            ("admin", settings.admin_key, ["admin"]),
            ("service", settings.service_key, ["infer", "tenants"]),
        ):
            if key:
                # Checked before anything starts: no key that was left at a default is let in.
                store_key(conn, Secret.chosen(key), tenant="default", name=name, scopes=scopes)
    engine.dispose()


def back_up(file: str) -> None:
    """Write the metadata store, the artefacts and the notary's key to a new file, while everything runs."""
    from sextant_scheduler.handlers import backup

    with _stores() as (engine, artefacts, settings):
        backup.write(engine, artefacts, settings.notary_dir, Path(file), _tell)


def restore(file: str) -> None:
    """Read a backup into an empty database and the artefact store."""
    from sextant_scheduler.handlers import backup

    with _stores() as (engine, artefacts, settings):
        backup.restore(engine, artefacts, settings.notary_dir, Path(file), _tell)


@contextmanager
def _stores() -> Iterator[tuple[Engine, Artefacts, BackupSettings]]:
    from sextant_shared.artefacts import Artefacts
    from sextant_shared.store.engine import connect

    settings = BackupSettings.read(os.environ)
    engine = connect(settings.database_url, size=1)
    try:
        yield engine, Artefacts(settings.artefacts_url, settings.work_dir / "cache"), settings
    finally:
        engine.dispose()


def _tell(line: str) -> None:
    sys.stderr.write(line + "\n")
