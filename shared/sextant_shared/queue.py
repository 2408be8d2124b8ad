"""The Celery application: one queue a kind of job; a message holds a job's id only.

Celery only wakes a worker. Whether there is work is decided by the claim in the store, so that doubled and lost
messages do no harm: ADR 0003.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.transport import redis, virtual

from sextant_shared.contracts.specs import CELERY_KINDS

TASK = "sextant.run"


class Message(virtual.Message):  # type: ignore[misc] # it has no types
    """A message whose end is told to the broker, or the connection counts as lost.

    kombu logs that it could not be told, and goes on. But the client has thrown the lost connection away by then, and
    with it what the consumer waits on: no error ever comes from there, and the worker would listen to nothing.
    """

    def ack_log_error(self, logger: object, errors: object, multiple: bool = False) -> None:
        """As kombu's, in the consumer's loop, which connects anew upon an error."""
        self.ack(multiple=multiple)


class Channel(redis.Channel):  # type: ignore[misc]
    """kombu's, with such messages."""

    Message = Message


class Transport(redis.Transport):  # type: ignore[misc]
    """kombu's, with such channels."""

    Channel = Channel


class Persistent(Connection):  # type: ignore[misc]
    """A connection that tries a broker which is away again within a second: it is back as soon. Celery's steps of 2, 4
    and 6 s leave its workers deaf meanwhile.
    """

    def get_transport_cls(self) -> type[Transport]:
        """The one whose messages notice that the connection is lost."""
        return Transport

    def ensure_connection(self, *args: Any, **options: Any) -> Connection:
        """As kombu's, in short steps."""
        steps = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}
        return super().ensure_connection(*args, **{**steps, **options})


def build_queue(redis_url: str) -> Celery:
    """The application with the settings that its known failures call for."""
    app = Celery("sextant", broker=redis_url, set_as_current=False)
    app.amqp.Connection = Persistent
    app.conf.update(
        task_queues=[Queue(kind, routing_key=kind) for kind in CELERY_KINDS],
        task_create_missing_queues=False,
        task_default_queue="probe",
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_pool_limit=2,
        task_publish_retry_policy={"max_retries": 3, "interval_start": 0.1, "interval_step": 0.2, "interval_max": 0.5},
        broker_transport_options={
            "visibility_timeout": 3600,
            "unacked_restore_interval": 5,
            "unacked_restore_throttle": 1,
            "socket_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 30,
        },
    )
    return app


MARK = "probe.marked"
"""A key that is there as long as the broker has lost nothing; named so that the account may write it."""


def keeps(app: Celery) -> bool:
    """Whether the broker still has what it was given since `mark`. Raises what its client raises."""
    with app.connection_for_write() as connection:
        return bool(connection.default_channel.client.exists(MARK))


def mark(app: Celery) -> None:
    """From now on the broker `keeps`, until it loses its data."""
    with app.connection_for_write() as connection:
        connection.default_channel.client.set(MARK, "1")


def waiting(app: Celery, kinds: Sequence[str]) -> set[str]:
    """Those of the kinds for which there is a message that no worker has taken. Raises what its client raises."""
    with app.connection_for_read() as connection:
        client = connection.default_channel.client
        return {kind for kind in kinds if client.llen(kind)}


def send(app: Celery, kind: str, job_id: str) -> None:
    """Wake a worker of this kind for the job."""
    app.send_task(TASK, args=[job_id], queue=kind)
