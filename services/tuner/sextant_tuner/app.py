"""The composition root of the tuner."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from random import Random

from sextant_shared.errors import InvalidInput
from sextant_shared.settings import Settings

USAGE = "usage: python -m sextant_tuner control"


def main(arguments: list[str]) -> int:
    """Run the process that the arguments name; the exit status."""
    if arguments != ["control"]:
        sys.stderr.write(USAGE + "\n")
        return 2
    import uvloop

    try:
        settings = Settings.read(os.environ)
    except InvalidInput as error:
        sys.stderr.write(f"sextant_tuner: {error.message}\n")
        return 2
    uvloop.run(_control(settings))
    return 0


async def _control(settings: Settings) -> None:
    from prometheus_client import CollectorRegistry

    from sextant_shared.bus import Bus
    from sextant_shared.store.engine import connect_async
    from sextant_shared.telemetry import configure_logging, serve_operations
    from sextant_tuner.consumer import TunerLoop

    configure_logging(settings.log_format, "tuner")
    engine = connect_async(settings.database_url, size=2)
    bus = await Bus.connect(settings.nats_url, "tuner")
    registry = CollectorRegistry()
    loop = TunerLoop(engine, bus, Random(), registry)
    operations = serve_operations(settings.bind, settings.metrics_port, registry, loop.unready)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, loop.stop)
    await loop.run()
    await bus.close()
    await engine.dispose()
    if operations:
        operations.close()
