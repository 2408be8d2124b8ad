"""A Celery application as its documentation has it: `celery -A tests.bench.clients.chaos_celery worker`.

CHAOS_BROKER is the broker's URL, CHAOS_WORK a file in which each task notes its start and its end, and CHAOS_TUNED says
whether the settings are those that its documentation and its issues recommend against lost tasks.
"""

from __future__ import annotations

import os
import time

from celery import Celery

TASK = "chaos.job"
TUNED = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "worker_prefetch_multiplier": 1,
    "broker_connection_retry_on_startup": True,
    "broker_transport_options": {
        # Longer than any job here, and swept as often as it can be: what a killed worker had comes back after that.
        "visibility_timeout": 10,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "socket_timeout": 5,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
}


def build(broker: str, *, tuned: bool) -> Celery:
    """The application; where it is not tuned, with every setting as it comes."""
    app = Celery("chaos", broker=broker, set_as_current=False)
    app.conf.update(worker_hijack_root_logger=False, **(TUNED if tuned else {}))
    return app


def note(word: str, key: str) -> None:
    """One line, written at once."""
    descriptor = os.open(os.environ["CHAOS_WORK"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, f"{word} {key} {os.environ.get('CHAOS_WORKER', '')} {time.time():.6f}\n".encode())
    os.close(descriptor)


app = build(os.environ.get("CHAOS_BROKER", "memory://"), tuned=os.environ.get("CHAOS_TUNED") == "1")


@app.task(name=TASK)  # type: ignore[untyped-decorator]
def job(key: str, sleep_s: float) -> None:
    """Take as long as the job takes; its end is its effect."""
    note("start", key)
    time.sleep(sleep_s)
    note("end", key)
