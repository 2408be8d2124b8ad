"""A bare Celery hop: the platform's settings, and a task that does nothing but note when it began.

`python -m tests.bench.celery_hop REDIS_URL` is the worker.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable

import redis
from celery import Celery
from celery.exceptions import SecurityWarning
from kombu.entity import Queue

from sextant_shared.queue import build_queue

QUEUE, TASK, NOTES = "bench-hop", "bench.hop", "bench-hop-notes"
Hop = Callable[[], float]


def application(redis_url: str) -> Celery:
    """The platform's application with one more queue."""
    app = build_queue(redis_url)
    app.conf.task_queues = [Queue(QUEUE, routing_key=QUEUE)]
    return app


def hop(redis_url: str, notes: redis.Redis) -> Hop:
    """A function that sends one task, waits for its note, and gives the milliseconds in between."""
    app = application(redis_url)

    def once() -> float:
        sent = time.time()
        app.send_task(TASK, queue=QUEUE)
        answer = notes.blpop([NOTES], timeout=30)
        if not isinstance(answer, list | tuple):
            raise SystemExit("the Celery worker did not answer")
        return 1000 * (float(answer[1]) - sent)

    return once


def _serve(redis_url: str) -> None:
    app = application(redis_url)
    notes = redis.Redis.from_url(redis_url.replace("redis+socket", "unix"))

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def note() -> None:
        notes.rpush(NOTES, repr(time.time()))

    warnings.filterwarnings("ignore", category=SecurityWarning)
    app.Worker(
        pool="threads",
        concurrency=1,
        queues=[QUEUE],
        hostname="bench@local",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        loglevel="ERROR",
        quiet=True,
    ).start()


if __name__ == "__main__":
    _serve(sys.argv[1])
