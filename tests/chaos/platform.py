"""The whole platform as `sextant up` runs it, but that each server is reached through a proxy, and leases are short."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sextant.stack import processes
from sextant.stack.accounts import Accounts
from sextant.stack.home import Credentials, Home, write_private
from sextant.stack.processes import METRICS_PORTS_FROM, Options, ProcessSpec
from sextant.stack.servers import Postgres, ServerUrls, Valkey, free_port
from sextant.stack.supervisor import Supervisor, port_is_free
from tests.chaos.proxy import Proxy
from tests.chaos.schedule import LEASE_S, WORKERS, skews

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120.0
DISK = "64m"
SECOND_NODE = "b"


@dataclass(frozen=True)
class Platform:
    """A running platform and the ways to reach it."""

    home: Home
    supervisor: Supervisor
    links: dict[str, Proxy]
    direct: ServerUrls
    """Past the proxies: for who watches and who strikes."""
    key: str
    disks: tuple[Path, ...]
    """Small file systems of their own, below which NATS and the artefact store lie; none where they cannot be had."""
    ledger: Path

    @property
    def url(self) -> str:
        """The API, through its proxy."""
        return f"http://127.0.0.1:{self.links['api'].port}"

    @property
    def direct_url(self) -> str:
        """The API itself."""
        return self.supervisor.url

    def pid(self, name: str) -> int | None:
        """The process of this name as it is now."""
        return self.supervisor.pids().get(name)


@asynccontextmanager
async def running(seed: int, *, keep_logs: Path | None = None) -> AsyncIterator[Platform]:
    """All servers and services; a second host's worker beside those of the first."""
    path = Path(tempfile.mkdtemp(prefix="sextant-chaos-", dir="/var/tmp"))
    path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    home = Home.prepare(path)
    disks = tuple(filter(_mount, [home.artefacts, home.path / "nats"]))
    supervisor = Supervisor(home, lambda name, line: None)
    links: dict[str, Proxy] = {}
    try:
        credentials, nats_port, options = home.credentials(), free_port(0), _options()
        links = _links(home, credentials, nats_port, options)
        for link in links.values():
            await link.start()
        direct = processes.urls(home, credentials, nats_port, {})
        supervisor.url = f"http://127.0.0.1:{options.port}"
        servers = processes.servers(home, credentials, nats_port, {})
        _promise_room(home)
        await supervisor.start(servers, TIMEOUT_S)
        base = processes.environment(home, credentials, direct, options)
        accounts = Accounts(home, credentials, nats_port)
        await supervisor.run_once(processes.migration(base, credentials, accounts), TIMEOUT_S)
        ledger = path / "work.txt"
        base |= {"SEXTANT_LEASE_S": str(LEASE_S), "SEXTANT_NODE_NAME": "a", "CHAOS_LEDGER": str(ledger)}
        specs = _services(home, processes.services(base, options, accounts), options, seed)
        await supervisor.start([_through(links, spec) for spec in specs], TIMEOUT_S)
        yield Platform(home, supervisor, links, direct, credentials.admin_key, disks, ledger)
    finally:
        await supervisor.stop()
        for link in links.values():
            await link.stop()
        if keep_logs:
            shutil.copytree(home.logs, keep_logs, dirs_exist_ok=True)
        for disk in disks:
            subprocess.run(["umount", "--lazy", str(disk)], check=False)
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)


def _promise_room(home: Home) -> None:
    """Let NATS believe that its disk is large: by itself it would make no stream that might outgrow this one."""
    file = home.run / "nats.conf"
    write_private(file, file.read_text().replace("jetstream: {", "jetstream: {\n  max_file_store: 8GB"))


def _options() -> Options:
    """A free block of ports; two slots whatever the machine has. Two runs at once begin to look at different places."""
    first = os.getpid() % 160
    for port in (11_000 + 50 * ((first + index) % 160) for index in range(160)):
        found = Options(port=port, slots=2)
        if all(port_is_free(number) for number in [*processes.ports(found), _second_port(found)]):
            return found
    raise SystemExit("no free block of ports between 11000 and 19000")


def _second_port(options: Options) -> int:
    return options.port + METRICS_PORTS_FROM + len(processes.SERVICES)


def _mount(path: Path) -> bool:
    """Put a small file system of its own there; False where this process may not."""
    path.mkdir(exist_ok=True, mode=0o700)
    if os.geteuid() != 0:
        return False
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "tmpfs", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _links(home: Home, credentials: Credentials, nats_port: int, options: Options) -> dict[str, Proxy]:
    return {
        "postgres": Proxy(Postgres(home, credentials).socket),
        "valkey": Proxy(Valkey(home, credentials).socket),
        "nats": Proxy(nats_port),
        "api": Proxy(options.port),
    }


def _through(links: dict[str, Proxy], spec: ProcessSpec) -> ProcessSpec:
    """The service with each of its servers behind the proxy."""
    environment = dict(spec.environment)
    for variable, link, form in (
        ("SEXTANT_DATABASE_URL", "postgres", "postgresql+psycopg://{}@127.0.0.1:{}/postgres"),
        ("SEXTANT_REDIS_URL", "valkey", "redis://{}@127.0.0.1:{}/0"),
        ("SEXTANT_NATS_URL", "nats", "nats://{}@127.0.0.1:{}"),
    ):
        if url := environment[variable]:
            account = url.partition("://")[2].partition("@")[0]
            environment[variable] = form.format(account, links[link].port)
    return replace(spec, environment=environment)


def _services(home: Home, services: list[ProcessSpec], options: Options, seed: int) -> list[ProcessSpec]:
    """Those of `sextant up`, with workers that note what they do, and one of a second host."""
    folders = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    services = [replace(spec, environment={**spec.environment, "PYTHONPATH": folders}) for spec in services]
    wrong = skews(seed)
    first = next(spec for spec in services if spec.name == "data-prep")
    port = _second_port(options)
    own = {"SEXTANT_NODE_NAME": SECOND_NODE, "SEXTANT_WORK_DIR": f"{home.work}-b", "SEXTANT_METRICS_PORT": str(port)}
    name = f"data-prep@{SECOND_NODE}"
    second = replace(first, name=name, environment={**first.environment, **own}, metrics_port=port)
    noting = [_noting(spec, spec.name, wrong) for spec in services]
    return [*noting, _noting(second, "data-prep", wrong)]


def _noting(spec: ProcessSpec, service: str, wrong: dict[str, float]) -> ProcessSpec:
    """The service's worker, if it is one that runs probes, with a clock that is wrong."""
    if spec.name not in WORKERS or service == "trainer":
        return spec
    environment = {**spec.environment, "CHAOS_SKEW_S": str(wrong[spec.name])}
    return replace(spec, command=[sys.executable, "-m", "tests.chaos.worker", service], environment=environment)
