"""The composition root of the exporter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sextant_shared.errors import InvalidInput
from sextant_shared.lifecycle.machine import Job

USAGE = "usage: python -m sextant_exporter worker | work DIRECTORY"


def main(arguments: list[str]) -> int:
    """Run the process that the arguments name; the exit status."""
    match arguments:
        case ["worker"]:
            return _worker()
        case ["work", directory]:
            return _work(Path(directory))
    sys.stderr.write(USAGE + "\n")
    return 2


def _worker() -> int:
    from sextant_exporter.settings import ExporterSettings
    from sextant_shared.execution.worker import run_worker

    try:
        settings = ExporterSettings.read(os.environ)
    except InvalidInput as error:
        sys.stderr.write(f"sextant_exporter: {error.message}\n")
        return 2

    def service_of(job: Job) -> dict[str, str]:
        # Only an evaluation talks to anyone; an export gets no address and no key.
        if job.kind != "evaluate":
            return {}
        return {"url": settings.inference_url, "key": settings.service_key, "tenant": job.tenant}

    run_worker(
        settings,
        service="exporter",
        module="sextant_exporter",
        kinds=["export", "evaluate"],
        job_service=service_of,
    )
    return 0


def _work(directory: Path) -> int:
    from sextant_exporter.handlers import evaluate, export
    from sextant_shared.execution import child

    return child.main(directory, {"export": export, "evaluate": evaluate})
