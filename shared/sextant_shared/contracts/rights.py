"""What each service may do on the brokers: the subjects that it publishes and hears, the queues that it uses.

The local stack and Compose give every service an account with these rights and no others. Its rights on the database
are in `sextant_migrations.roles`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sextant_shared.contracts.messages import JOB_EVENTS, MEMBERSHIP, SUMMONED, WAKE

STREAM_API = "$JS.API.STREAM"
CONSUMER_API = "$JS.API.CONSUMER"


@dataclass(frozen=True, slots=True)
class Rights:
    """Of one service."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    queues: tuple[str, ...] = ()
    """Kinds of job whose queues it fills or empties; without any it has no account on Redis."""

    @property
    def speaks(self) -> bool:
        """Whether it has an account on NATS."""
        return bool(self.publish or self.subscribe)


WISHES = ("jobs.*.cancelling.v1", "jobs.*.pausing.v1")
"""What makes an attempt ask the store at once what its owner wants: a short run would be over by the next heartbeat."""

SERVICES: Mapping[str, Rights] = {
    "scheduler-api": Rights(
        publish=(
            WAKE,
            # Logs so far: the kept messages of a live subject, through a consumer of its own.
            f"{STREAM_API}.NAMES",
            f"{CONSUMER_API}.CREATE.LIVE",
            *(f"{CONSUMER_API}.{call}.LIVE.>" for call in ("CREATE", "INFO", "DELETE")),
            "$JS.FC.LIVE.>",
        ),
        subscribe=(JOB_EVENTS, "live.>"),
    ),
    "scheduler-control": Rights(
        publish=(
            WAKE,
            *(JOB_EVENTS, "keys.>", "endpoints.>", "uploads.>", "nodes.>"),
            *(f"{STREAM_API}.{call}.*" for call in ("CREATE", "UPDATE", "INFO")),
            # A stream that a full disk has left silent is made anew, from the outbox.
            f"{STREAM_API}.DELETE.EVENTS",
        ),
        subscribe=(WAKE, MEMBERSHIP),
        queues=("probe", "prepare", "export", "evaluate"),
    ),
    # It seals what is in the database, and talks to nobody.
    "scheduler-notary": Rights(),
    "data-prep": Rights(publish=(WAKE, "live.>"), subscribe=WISHES, queues=("probe", "prepare")),
    "exporter": Rights(publish=(WAKE, "live.>"), subscribe=WISHES, queues=("probe", "export", "evaluate")),
    "trainer": Rights(
        publish=(WAKE, "live.>", MEMBERSHIP, SUMMONED),
        subscribe=(*WISHES, "jobs.*.reserved.v1", SUMMONED),
    ),
    "tuner": Rights(publish=(WAKE,), subscribe=("jobs.train.>", "jobs.tune.>")),
    "inference": Rights(publish=(WAKE,), subscribe=("jobs.deploy.queued.v1", "endpoints.>")),
}


def account(service: str) -> str:
    """The name of a service's account, the same on all three servers."""
    return f"sextant_{service.replace('-', '_')}"


def nats_users(passwords: Mapping[str, str]) -> list[str]:
    """The lines of NATS's `users` for these services; a password may be a variable. Replies come to an inbox that no
    other account can hear.
    """
    return [
        f"{{ user: {account(service)}, password: {password}, permissions: {{ "
        f"publish: {_quoted(SERVICES[service].publish)}, "
        f"subscribe: {_quoted((*SERVICES[service].subscribe, f'_INBOX.{account(service)}.>'))} }} }}"
        for service, password in passwords.items()
        if SERVICES[service].speaks
    ]


def redis_users(passwords: Mapping[str, str]) -> list[str]:
    """The lines of Redis's configuration that make the accounts of services with queues: nothing that looks at or
    changes the server or all keys, and no key but of their own queues. Scripts are for kombu, which lets go of its lock
    of unacknowledged messages by one; a script may do no more than its account.
    """
    return [
        f"user {account(service)} reset on >{password} {_keys(SERVICES[service].queues)} "
        "+@read +@write +@connection +@transaction -@dangerous -@scripting +evalsha +script|load"
        for service, password in passwords.items()
        if SERVICES[service].queues
    ]


def _keys(queues: tuple[str, ...]) -> str:
    # A queue, and the same with a priority behind it; and what Celery keeps of messages that are not acknowledged.
    return " ".join([*(f"~{queue}*" for queue in queues), "~_kombu.binding*", "~unacked*"])


def _quoted(subjects: tuple[str, ...]) -> str:
    return "[" + ", ".join(f'"{subject}"' for subject in subjects) + "]"
