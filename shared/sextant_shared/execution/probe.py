"""The `probe` kind: does as it is told, in the supervisor's own thread, so that it measures only the platform."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from sextant_shared.contracts.specs import ProbeSpec
from sextant_shared.execution.launching import Ending, Running
from sextant_shared.execution.process_table import Process
from sextant_shared.execution.workbench import Failed, Progress, Result, WorkOrder
from sextant_shared.lifecycle.place import Place

TICK_S = 0.5


class ProbeLauncher:
    """Runs probes in place of a process."""

    def start(self, directory: Path, place: Place) -> Running:
        """Read the order; the work happens while its events are read."""
        order = WorkOrder.model_validate_json((directory / "work.json").read_bytes())
        return _Probe(ProbeSpec.model_validate(order.spec), order.attempt)


class _Probe:
    meeting: str | None = None

    def __init__(self, spec: ProbeSpec, attempt: int) -> None:
        self._spec = spec
        self._attempt = attempt
        self._stop = threading.Event()

    def events(self) -> Iterator[bytes]:
        began = time.monotonic()
        while (left := began + self._spec.sleep_s - time.monotonic()) > 0:
            if self._stop.wait(min(TICK_S, left)):
                return
            done = min(1.0, (time.monotonic() - began) / self._spec.sleep_s)
            yield Progress(at=time.time(), fraction=done).model_dump_json().encode()
        yield self._ending().model_dump_json().encode()

    def _ending(self) -> Result | Failed:
        outcome, first = self._spec.outcome, self._attempt == 1
        if outcome == "crash" or (outcome == "crash-once" and first):
            os.kill(os.getpid(), signal.SIGKILL)
        if outcome == "fail" or (outcome == "fail-once" and first):
            return Failed(message="the probe was told to fail", retriable=outcome == "fail-once")
        return Result(outputs=json.loads(json.dumps(self._spec.returns)))

    def processes(self) -> Sequence[Process]:
        return ()

    def wait(self) -> Ending:
        return Ending((-signal.SIGTERM,) if self._stop.is_set() else (0,))

    def signal(self, number: signal.Signals) -> None:
        self._stop.set()

    def kill(self) -> None:
        self._stop.set()
