"""The composition root of data preparation."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sextant_shared.errors import InvalidInput

USAGE = "usage: python -m sextant_data_prep worker | work DIRECTORY"


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
    from sextant_data_prep.settings import PrepareSettings
    from sextant_shared.execution.worker import run_worker

    try:
        settings = PrepareSettings.read(os.environ)
    except InvalidInput as error:
        sys.stderr.write(f"sextant_data_prep: {error.message}\n")
        return 2
    told = {"piece_bytes": str(settings.piece_bytes)}
    run_worker(
        settings, service="data-prep", module="sextant_data_prep", kinds=["prepare"], job_service=lambda job: told
    )
    return 0


def _work(directory: Path) -> int:
    from sextant_data_prep.handlers import work
    from sextant_shared.execution import child

    return child.main(directory, {"prepare": work})
