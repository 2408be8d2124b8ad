"""A worker goes on where the broker is killed, and has lost its connection while it worked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from sextant.stack.running import RunningServers
from sextant_shared import queue

WORKER = """
import sys, time
from pathlib import Path
from sextant_shared import queue

app, notes = queue.build_queue(sys.argv[1]), Path(sys.argv[2])

@app.task(name=queue.TASK)
def run(job_id):
    (notes / f"{job_id}.begun").touch()
    while job_id == "held" and not (notes / "go").exists():
        time.sleep(0.01)
    (notes / f"{job_id}.done").touch()

app.Worker(pool="threads", concurrency=1, queues=["probe"], without_gossip=True, without_mingle=True,
           without_heartbeat=True, loglevel="WARNING", quiet=True).start()
"""


@pytest.mark.timeout(120)
def test_a_broker_that_is_killed_while_a_task_runs_is_listened_to_again(
    own_servers: RunningServers, tmp_path: Path
) -> None:
    app = queue.build_queue(own_servers.urls.redis_url)
    worker = subprocess.Popen([sys.executable, "-c", WORKER, own_servers.urls.redis_url, str(tmp_path)])
    try:
        for _ in range(3):
            for note in tmp_path.iterdir():
                note.unlink()
            queue.send(app, "probe", "held")
            _until((tmp_path / "held.begun").exists)
            os.kill(_process_of(app), signal.SIGKILL)
            # What ends now cannot be acknowledged: the server is away for some tenths of a second.
            (tmp_path / "go").touch()
            _until((tmp_path / "held.done").exists)
            _until(lambda: _sent(app, "next"))
            # A worker that has lost its connection without noticing takes nothing, however long one waits.
            _until((tmp_path / "next.done").exists)
            assert worker.poll() is None, "it is the same process"
    finally:
        worker.kill()
        worker.wait()


def _process_of(app: Celery) -> int:
    with app.connection_for_write() as connection:
        return int(connection.default_channel.client.info("server")["process_id"])


def _sent(app: Celery, job_id: str) -> bool:
    try:
        queue.send(app, "probe", job_id)
    except Exception:  # noqa: BLE001 - it is away
        return False
    return True


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "nothing has happened for 30 s"
        time.sleep(0.02)
