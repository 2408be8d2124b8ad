"""Each service's account on NATS and Valkey: what it may not do is refused by the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import nats
import pytest
import redis
from nats.errors import Error as NatsError

from sextant.stack.running import RunningServers
from sextant_shared.bus import Bus
from sextant_shared.contracts.messages import live_subject
from sextant_shared.contracts.rights import SERVICES, account
from sextant_shared.ids import new_id
from sextant_shared.queue import build_queue

NOT_TO_PUBLISH = {
    "jobs.train.succeeded.v1": SERVICES.keys() - {"scheduler-control"},
    "keys.created.v1": SERVICES.keys() - {"scheduler-control"},
    "endpoints.ready.v1": SERVICES.keys() - {"scheduler-control"},
    "membership.node.v1": SERVICES.keys() - {"trainer"},
    "gangs.summoned": SERVICES.keys() - {"trainer"},
    "live.x.y.log": SERVICES.keys() - {"data-prep", "exporter", "trainer"},
    "$JS.API.STREAM.DELETE.EVENTS": SERVICES.keys() - {"scheduler-control"},
    "$JS.API.STREAM.DELETE.LIVE": SERVICES.keys(),
    "$JS.API.STREAM.PURGE.EVENTS": SERVICES.keys(),
    "$JS.API.STREAM.MSG.DELETE.EVENTS": SERVICES.keys(),
    "$JS.API.STREAM.UPDATE.EVENTS": SERVICES.keys() - {"scheduler-control"},
    "$JS.API.STREAM.MSG.GET.EVENTS": SERVICES.keys(),
    "$JS.API.CONSUMER.CREATE.EVENTS.x": SERVICES.keys(),
    "$SYS.REQ.SERVER.PING": SERVICES.keys(),
    "anything": SERVICES.keys(),
}
NOT_TO_HEAR = {
    ">": SERVICES.keys(),
    "$SYS.>": SERVICES.keys(),
    "_INBOX.>": SERVICES.keys(),
    "_INBOX.sextant_scheduler_api.>": SERVICES.keys() - {"scheduler-api"},
    "keys.>": SERVICES.keys(),
    "live.>": SERVICES.keys() - {"scheduler-api"},
    "wake.scheduler": SERVICES.keys() - {"scheduler-control"},
}
NOT_TO_CALL = [
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "dir", "/tmp"),
    ("ACL", "LIST"),
    ("EVAL", "return 1", "0"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "LIST"),
    ("KEYS", "*"),
    ("SHUTDOWN",),
    ("REPLICAOF", "127.0.0.1", "9"),
    ("MODULE", "LIST"),
    ("SAVE",),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("MONITOR",),
    ("GET", "somebody-elses"),
    ("SET", "somebody-elses", "x"),
]
PATIENCE_S = 5.0
SPEAKING = [service for service, rights in SERVICES.items() if rights.speaks]
WITH_QUEUES = [service for service, rights in SERVICES.items() if rights.queues]


async def refusals(
    servers: RunningServers,
    service: str,
    *,
    publish: Sequence[str] = (),
    subscribe: Sequence[str] = (),
    expected: int = 0,
) -> list[str]:
    """What the server says to it; waited for until so many refusals have come."""
    said: list[str] = []

    async def told(error: Exception) -> None:
        said.append(str(error).lower())

    url = servers.accounts.urls(service)["SEXTANT_NATS_URL"]
    client = await nats.connect(url, error_cb=told, allow_reconnect=False)
    for subject in publish:
        await client.publish(subject, b"{}")
    for subject in subscribe:
        await client.subscribe(subject)
    await client.flush()
    # A refusal is on its way before the answer to the flush, and told by a task of its own.
    until = time.monotonic() + (PATIENCE_S if expected else 0.1)
    while len(said) < expected and time.monotonic() < until:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.02)
    await client.close()
    return said


@pytest.mark.parametrize("service", SPEAKING)
def test_a_service_cannot_say_what_is_not_its_to_say(servers: RunningServers, service: str) -> None:
    subjects = [subject for subject, services in NOT_TO_PUBLISH.items() if service in services]
    said = asyncio.run(refusals(servers, service, publish=subjects, expected=len(subjects)))
    wanted = [f'permissions violation for publish to "{subject}"'.lower() for subject in subjects]
    assert [line.removeprefix("nats: ").strip("'") for line in said] == wanted


@pytest.mark.parametrize("service", SPEAKING)
def test_a_service_cannot_hear_what_is_not_for_it(servers: RunningServers, service: str) -> None:
    subjects = [subject for subject, services in NOT_TO_HEAR.items() if service in services]
    said = asyncio.run(refusals(servers, service, subscribe=subjects, expected=len(subjects)))
    wanted = [f'permissions violation for subscription to "{subject}"'.lower() for subject in subjects]
    assert [line.removeprefix("nats: ").strip("'") for line in said] == wanted


@pytest.mark.parametrize("service", SPEAKING)
def test_a_service_can_say_and_hear_what_is_its_own(servers: RunningServers, service: str) -> None:
    rights = SERVICES[service]
    says = [subject.replace(">", "x") for subject in rights.publish if not subject.startswith("$JS")]
    assert asyncio.run(refusals(servers, service, publish=says, subscribe=rights.subscribe)) == []


def test_a_log_is_written_by_one_service_and_read_by_another(servers: RunningServers) -> None:
    subject = live_subject(new_id(), new_id(), "log")

    async def run() -> list[bytes]:
        urls = {name: servers.accounts.urls(name)["SEXTANT_NATS_URL"] for name in SERVICES}
        control = await Bus.connect(urls["scheduler-control"], "control")
        await control.ensure_streams()
        worker = await Bus.connect(urls["data-prep"], "worker")
        await worker.publish(subject, b"line")
        await worker.close()
        api = await Bus.connect(urls["scheduler-api"], "api")
        found = await api.history(subject, 10)
        await control.close()
        await api.close()
        return found

    assert asyncio.run(run()) == [b"line"]


def test_a_wrong_password_opens_nothing(servers: RunningServers) -> None:
    url = servers.accounts.urls("tuner")["SEXTANT_NATS_URL"].replace(":p", ":q")

    async def run() -> None:
        with pytest.raises((NatsError, OSError)):
            await nats.connect(url, allow_reconnect=False, max_reconnect_attempts=1)

    asyncio.run(run())


def client(servers: RunningServers, service: str) -> redis.Redis:
    """A connection as the service's account."""
    url = servers.accounts.urls(service)["SEXTANT_REDIS_URL"]
    return redis.Redis.from_url(url.replace("redis+socket://", "unix://"))


@pytest.mark.parametrize("service", WITH_QUEUES)
def test_a_service_cannot_do_with_the_broker_what_it_does_not_need(servers: RunningServers, service: str) -> None:
    for command in NOT_TO_CALL:
        with client(servers, service) as broker, pytest.raises(redis.exceptions.NoPermissionError):
            broker.execute_command(*command)


@pytest.mark.parametrize("service", WITH_QUEUES)
def test_a_worker_may_look_for_messages_that_were_never_acknowledged(servers: RunningServers, service: str) -> None:
    with client(servers, "scheduler-control") as broker:
        broker.delete("unacked_mutex")
    app = build_queue(servers.accounts.urls(service)["SEXTANT_REDIS_URL"])
    with app.connection_for_read() as connection:
        # What a Celery worker does every few seconds; it dies of what this raises.
        connection.default_channel.qos.restore_visible(interval=1)
        assert not connection.default_channel.client.exists("unacked_mutex"), "the lock was let go"


def test_a_worker_sees_the_queues_of_its_own_kinds_alone(servers: RunningServers) -> None:
    with client(servers, "data-prep") as broker:
        assert broker.llen("prepare") == 0
        with pytest.raises(redis.exceptions.NoPermissionError):
            broker.llen("evaluate")


@pytest.mark.parametrize("service", sorted(SERVICES.keys() - set(WITH_QUEUES)))
def test_a_service_without_queues_has_no_account_on_the_broker(servers: RunningServers, service: str) -> None:
    assert servers.accounts.urls(service)["SEXTANT_REDIS_URL"] == ""
    with redis.Redis.from_url(servers.urls.redis_url.replace("redis+socket://", "unix://")) as admin:
        assert admin.acl_getuser(account(service)) is None
