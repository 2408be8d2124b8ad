"""Logs are read by machines: each line is an object that says who wrote it, and about what."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, threading, time
import structlog
from sextant_shared.execution.hold import Hold
from sextant_shared.execution.lease import Lease
from sextant_shared.lifecycle.jobs import Beat
from sextant_shared.telemetry import configure_logging

configure_logging("json", "worker")
log = structlog.get_logger("x")
threading.Thread(target=log.info, args=("from another thread",)).start()
logging.getLogger("library").warning("from a library")
with structlog.contextvars.bound_contextvars(job_id="j"):
    told = threading.Event()
    hold = Hold.since(time.monotonic(), 1.0)
    with Lease(hold, lambda: Beat(False, False), print, lambda: (log.info("from the lease"), told.set())):
        told.wait(10)
"""


def test_every_line_names_its_service_and_those_of_a_job_its_job() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["service"] for line in lines} == {"worker"}
    assert {line["event"]: line.get("job_id") for line in lines} == {
        "from another thread": None,
        "from a library": None,
        "from the lease": "j",
    }
