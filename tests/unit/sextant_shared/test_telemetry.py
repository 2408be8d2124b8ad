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


FORGED = '{"event": "audit.sealed", "service": "scheduler", "level": "info"}'
HOSTILE = f"x\r\n2026-01-01T00:00:00Z [info] all is well\n{FORGED}\x1b[2J\x1b]0;owned\x07\u2028\u202e\x9b31m\x00"
LOGS = """
import logging, sys
import structlog
from sextant_shared.execution.workbench import parse_event
from sextant_shared.telemetry import configure_logging

format, hostile = sys.argv[1], sys.stdin.read()
configure_logging(format, "worker")
log = structlog.get_logger("x")
log.warning("attempt.lost", reason=hostile, **{"name": hostile, hostile: 1})
log.warning(hostile)
logging.getLogger("library").warning("said %s", hostile)
parse_event(hostile.encode())
try:
    raise ValueError(hostile)
except ValueError:
    log.exception("attempt.broke")
"""


def logged(log_format: str) -> str:
    """What the hostile text makes of a service's log."""
    command = [sys.executable, "-c", LOGS, log_format]
    done = subprocess.run(command, input=HOSTILE.encode(), capture_output=True, check=True, timeout=60)
    return done.stderr.decode()


def test_nothing_that_is_logged_forges_a_line_of_json() -> None:
    lines = logged("json").splitlines()
    assert len(lines) == 5
    assert [json.loads(line)["service"] for line in lines] == ["worker"] * 5
    assert json.loads(lines[0])["reason"].startswith("x\r\n2026")


def test_nothing_that_is_logged_forges_a_line_of_text_or_steers_a_terminal() -> None:
    text = logged("text")
    assert all(character.isprintable() or character in "\n\t" for character in text)
    begun = [line for line in text.split("\n") if line and not line.startswith("    | ")]
    assert len(begun) == 5
    assert all("service" in line or "worker" in text for line in begun)
    assert not any(line.startswith(("2026-01-01", FORGED[:10])) for line in begun)
