"""Which processes a stack has, with their commands and environments: a pure function of the home and the options."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from sextant.stack.accounts import Accounts
from sextant.stack.home import Credentials, Home
from sextant.stack.servers import Nats, Postgres, ServerUrls, Valkey

HAVE_SERVICE_KEY = ("exporter",)
METRICS_PORTS_FROM = 1000
"""The metrics ports follow the API's port at this distance."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user of `sextant up` may choose."""

    port: int = 8700
    slots: int | None = None


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """A process to supervise. It is ready when it answers: a socket that accepts, or /readyz on the metrics port."""

    name: str
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    account: str | None = None
    socket: str | None = None
    tcp_port: int | None = None
    metrics_port: int | None = None
    stop_signal: str = "SIGTERM"


SERVICES: tuple[tuple[str, list[str]], ...] = (
    ("scheduler-api", ["sextant_scheduler", "api"]),
    ("scheduler-control", ["sextant_scheduler", "control"]),
    ("scheduler-notary", ["sextant_scheduler", "notary"]),
    ("data-prep", ["sextant_data_prep", "worker"]),
    ("exporter", ["sextant_exporter", "worker"]),
    ("trainer", ["sextant_trainer", "agent"]),
    ("tuner", ["sextant_tuner", "control"]),
    ("inference", ["sextant_inference", "serve"]),
)


def servers(home: Home, credentials: Credentials, nats_port: int, given: Mapping[str, str]) -> list[ProcessSpec]:
    """The servers that no URL was given for; their files are made ready."""
    specs: list[ProcessSpec] = []
    if "SEXTANT_DATABASE_URL" not in given:
        postgres = Postgres(home, credentials)
        postgres.prepare()
        ran = postgres.command()
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients to leave.
        specs.append(
            ProcessSpec("postgres", ran.command, account=ran.account, socket=str(postgres.socket), stop_signal="SIGINT")
        )
    if "SEXTANT_REDIS_URL" not in given:
        valkey = Valkey(home, credentials)
        valkey.prepare()
        specs.append(ProcessSpec("valkey", valkey.command().command, socket=str(valkey.socket)))
    if "SEXTANT_NATS_URL" not in given:
        nats = Nats(home, credentials, nats_port)
        nats.prepare()
        specs.append(ProcessSpec("nats", nats.command().command, tcp_port=nats_port))
    return specs


def urls(home: Home, credentials: Credentials, nats_port: int, given: Mapping[str, str]) -> ServerUrls:
    """The servers' URLs: those given, and otherwise our own."""
    return ServerUrls(
        given.get("SEXTANT_DATABASE_URL") or Postgres(home, credentials).url,
        given.get("SEXTANT_REDIS_URL") or Valkey(home, credentials).url,
        given.get("SEXTANT_NATS_URL") or Nats(home, credentials, nats_port).url,
    )


def environment(home: Home, credentials: Credentials, where: ServerUrls, options: Options) -> dict[str, str]:
    """What every service is told."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("SEXTANT_")}
    tuned = {name: value for name, value in os.environ.items() if name in PASSED_ON}
    ours = {
        "SEXTANT_DATABASE_URL": where.database_url,
        "SEXTANT_REDIS_URL": where.redis_url,
        "SEXTANT_NATS_URL": where.nats_url,
        "SEXTANT_ARTEFACTS_URL": f"file://{home.artefacts}",
        "SEXTANT_WORK_DIR": str(home.work),
        "SEXTANT_NOTARY_DIR": str(home.notary),
        "SEXTANT_SERVICE_KEY": credentials.service_key,
        "SEXTANT_API_PORT": str(options.port),
        "SEXTANT_INFERENCE_PORT": str(options.port + 1),
        "SEXTANT_INFERENCE_URL": f"http://127.0.0.1:{options.port + 1}",
    }
    chosen = {"SEXTANT_SLOTS": str(options.slots)} if options.slots else {}
    # Two arenas a process: idle services hold less memory.
    return {**given, "PYTHONUNBUFFERED": "1", "MALLOC_ARENA_MAX": "2", **ours, **tuned, **chosen}


PASSED_ON = (
    *("SEXTANT_ARTEFACTS_URL", "SEXTANT_LEASE_S", "SEXTANT_LOG_FORMAT", "SEXTANT_SLOTS"),
    *("SEXTANT_MAX_IN_FLIGHT", "SEXTANT_MAX_TRANSFERS", "SEXTANT_KEY_RATE", "SEXTANT_MAX_OPEN_JOBS"),
    *("SEXTANT_MAX_OPEN_UPLOADS", "SEXTANT_MAX_STREAMS", "SEXTANT_MAX_KEYS", "SEXTANT_PIECE_BYTES"),
    "SEXTANT_USER_CODE",
    *("SEXTANT_JOB_MEMORY_MB", "SEXTANT_JOB_CPU_S", "SEXTANT_JOB_DISK_MB", "SEXTANT_JOB_PROCESSES"),
)
"""What the caller's environment may change of the services."""


def migration(base: Mapping[str, str], credentials: Credentials, accounts: Accounts | None = None) -> ProcessSpec:
    """The process that runs once, before the services: migrations, the services' roles, and the first keys."""
    keys = {"SEXTANT_ADMIN_KEY": credentials.admin_key, **(accounts.roles() if accounts else {})}
    return ProcessSpec("migrate", [sys.executable, "-m", "sextant_scheduler", "migrate"], {**base, **keys})


def services(base: Mapping[str, str], options: Options, accounts: Accounts | None = None) -> list[ProcessSpec]:
    """The services, each with a metrics port and an account of its own."""
    specs = []
    for index, (name, module) in enumerate(SERVICES):
        port = options.port + METRICS_PORTS_FROM + index
        extra = {"SEXTANT_METRICS_PORT": str(port), **(accounts.urls(name) if accounts else {})}
        if name not in HAVE_SERVICE_KEY:
            extra["SEXTANT_SERVICE_KEY"] = ""
        specs.append(ProcessSpec(name, [sys.executable, "-m", *module], {**base, **extra}, metrics_port=port))
    return specs


def ports(options: Options) -> list[int]:
    """The loopback ports that the services take."""
    metrics = [options.port + METRICS_PORTS_FROM + index for index in range(len(SERVICES))]
    return [options.port, options.port + 1, *metrics]
