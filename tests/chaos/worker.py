"""`python -m tests.chaos.worker data-prep|exporter`: a service's worker whose probes note what they do.

All else is the service's own. CHAOS_LEDGER names the ledger; by CHAOS_SKEW_S seconds its wall clock is wrong.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.chaos.ledger import Ledger

TICK_S = 0.05
KINDS = {"data-prep": ["prepare"], "exporter": ["export", "evaluate"]}
MODULES = {"data-prep": "sextant_data_prep", "exporter": "sextant_exporter"}


def skew(seconds: float) -> None:
    """Let this process take the time of day for another. The monotonic clock, like the database's, stays right."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)


def main(service: str) -> None:
    """Run until stopped."""
    skew(float(os.environ.get("CHAOS_SKEW_S", "0")))
    # Only now: a module may take the clock with it when it is imported.
    from sextant_shared.contracts.specs import ProbeSpec
    from sextant_shared.execution.launching import Ending, Running
    from sextant_shared.execution.workbench import Failed, Result, WorkOrder
    from sextant_shared.execution.worker import run_worker
    from sextant_shared.lifecycle.place import Place
    from sextant_shared.settings import Settings

    ledger = Ledger(Path(os.environ["CHAOS_LEDGER"]))

    class Noting:
        """A probe that sleeps in small bits, notes each, and leaves a file."""

        meeting: str | None = None

        def __init__(self, directory: Path) -> None:
            self._out = directory / "out"
            self._order = WorkOrder.model_validate_json((directory / "work.json").read_bytes())
            self._spec = ProbeSpec.model_validate(self._order.spec)
            self._stop = threading.Event()

        def events(self) -> Iterator[bytes]:
            until = time.monotonic() + self._spec.sleep_s
            while True:
                ledger.note(self._order.job_id, self._order.fence)
                left = until - time.monotonic()
                if left <= 0:
                    break
                if self._stop.wait(min(TICK_S, left)):
                    return
            (self._out / "token").write_text(f"{self._spec.returns}\n" * 100)
            fails = self._spec.outcome == "fail-once" and self._order.attempt == 1
            failed = Failed(message="the probe was told to fail", retriable=True)
            yield (failed if fails else Result(outputs=dict(self._spec.returns))).model_dump_json().encode()

        def processes(self) -> tuple[()]:
            return ()

        def wait(self) -> Ending:
            return Ending((-signal.SIGTERM,) if self._stop.is_set() else (0,))

        def signal(self, number: signal.Signals) -> None:
            self._stop.set()

        def kill(self) -> None:
            self._stop.set()

    class NotingLauncher:
        """Starts them."""

        def start(self, directory: Path, place: Place) -> Running:
            return Noting(directory)

    settings = Settings.read(os.environ)
    run_worker(settings, service=service, module=MODULES[service], kinds=KINDS[service], probe=NotingLauncher())


if __name__ == "__main__":
    main(sys.argv[1])
