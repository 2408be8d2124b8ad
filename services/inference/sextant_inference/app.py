"""The composition root of the inference service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from random import Random

from fastapi import FastAPI

from sextant_inference.settings import InferenceSettings
from sextant_shared.errors import InvalidInput

USAGE = "usage: python -m sextant_inference serve"


def main(arguments: list[str]) -> int:
    """Run the process that the arguments name; the exit status."""
    if arguments != ["serve"]:
        sys.stderr.write(USAGE + "\n")
        return 2
    try:
        settings = InferenceSettings.read(os.environ)
    except InvalidInput as error:
        sys.stderr.write(f"sextant_inference: {error.message}\n")
        return 2
    serve(settings)
    return 0


def serve(settings: InferenceSettings) -> None:
    """Serve until SIGTERM."""
    import uvicorn
    from prometheus_client import CollectorRegistry
    from sqlalchemy.ext.asyncio import AsyncEngine

    from sextant_inference import api
    from sextant_inference.consumer import ReconcileLoop
    from sextant_inference.gate import Gate
    from sextant_inference.handlers import Reconciler
    from sextant_inference.metrics import InferenceMetrics
    from sextant_inference.runtime.models import Models
    from sextant_shared.artefacts import Artefacts
    from sextant_shared.bus import Bus
    from sextant_shared.execution.worker import lock_worker
    from sextant_shared.store.engine import connect_async
    from sextant_shared.telemetry import configure_logging, serve_operations

    configure_logging(settings.log_format, "inference")
    lock = lock_worker(settings.work_dir, "inference")
    registry = CollectorRegistry()
    metrics = InferenceMetrics(registry)
    models = Models(settings.threads, metrics)
    engine: AsyncEngine = connect_async(settings.database_url, size=2)
    authorise = Gate(engine).check

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        bus = await Bus.connect(settings.nats_url, "inference")
        artefacts = Artefacts(settings.artefacts_url, settings.work_dir / "cache")
        reconciler = Reconciler(engine, bus, artefacts, models, f"{settings.node_name}/inference", Random())
        task = asyncio.create_task(ReconcileLoop(reconciler, settings.reconcile_every_s).run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await bus.close()
        await engine.dispose()

    def unready() -> str | None:
        return None if models.settled else "endpoints are being loaded"

    app = api.create(models, authorise, metrics, settings.max_body_bytes)
    app.router.lifespan_context = lifespan
    operations = serve_operations(settings.bind, settings.metrics_port, registry, unready)
    uvicorn.run(
        app,
        host=settings.bind,
        port=settings.inference_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        loop="uvloop",
        http="httptools",
    )
    if operations:
        operations.close()
    os.close(lock.descriptor)
