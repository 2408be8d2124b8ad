"""Starting what a benchmark needs: all of the platform, or chosen services, in a directory of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine

from sextant import Client
from sextant.stack import control, processes
from sextant.stack.accounts import Accounts
from sextant.stack.home import Home
from sextant.stack.processes import Options, ProcessSpec
from sextant.stack.servers import ServerUrls, free_port
from sextant.stack.supervisor import Supervisor, port_is_free

TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Platform:
    """A running platform."""

    home: Home
    url: str
    key: str
    urls: ServerUrls
    pids: dict[str, int]

    def client(self) -> Client:
        """A client with the admin key."""
        return Client(self.url, self.key)


def options() -> Options:
    """A free block of ports; two slots whatever the machine has."""
    for port in range(31_000, 39_000, 50):
        found = Options(port=port, slots=2)
        if all(port_is_free(number) for number in processes.ports(found)):
            return found
    raise SystemExit("no free block of ports between 31000 and 39000")


@contextmanager
def directory() -> Iterator[Path]:
    """A place for state that every account can come to, removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="sextant-bench-", dir="/var/tmp"))
    path.chmod(0o711 if os.geteuid() == 0 else 0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def whole() -> Iterator[Platform]:
    """Everything, as `sextant up` runs it."""
    with directory() as path:
        now = control.up_detached(path, options())
        try:
            home = Home(path)
            credentials = home.credentials()
            pids = {process.name: process.pid or 0 for process in now.processes} | {"sextant": now.pid or 0}
            urls = processes.urls(home, credentials, 0, {})
            yield Platform(home, now.url, credentials.admin_key, urls, pids)
        finally:
            control.down(path)


@contextmanager
def parts(*names: str, preparing: int = 1) -> Iterator[Platform]:
    """The servers and the services of these names alone; of `data-prep`, where it is one, so many workers."""
    with directory() as path:
        home = Home.prepare(path)
        credentials, nats_port, chosen = home.credentials(), free_port(0), options()
        urls = processes.urls(home, credentials, nats_port, {})
        base = processes.environment(home, credentials, urls, chosen)
        supervisor = Supervisor(home, lambda name, line: None)
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, daemon=True).start()

        def run(work: Coroutine[Any, Any, None]) -> None:
            asyncio.run_coroutine_threadsafe(work, loop).result(TIMEOUT_S)

        try:
            run(supervisor.start(processes.servers(home, credentials, nats_port, {}), TIMEOUT_S))
            accounts = Accounts(home, credentials, nats_port)
            run(supervisor.run_once(processes.migration(base, credentials, accounts), TIMEOUT_S))
            wanted = [spec for spec in processes.services(base, chosen, accounts) if spec.name in names]
            worker = next((spec for spec in wanted if spec.name == "data-prep"), None)
            wanted += [_another(worker, number, path) for number in range(2, preparing + 1)] if worker else []
            run(supervisor.start(wanted, TIMEOUT_S))
            url = f"http://127.0.0.1:{chosen.port}"
            yield Platform(home, url, credentials.admin_key, urls, supervisor.pids())
        finally:
            run(supervisor.stop())
            loop.call_soon_threadsafe(loop.stop)


def _another(worker: ProcessSpec, number: int, path: Path) -> ProcessSpec:
    """One more worker, as if on another host: with a name and a work directory of its own."""
    name, port = f"{worker.name}-{number}", free_port(0)
    own = {"SEXTANT_NODE_NAME": name, "SEXTANT_WORK_DIR": str(path / name), "SEXTANT_METRICS_PORT": str(port)}
    return replace(worker, name=name, environment={**worker.environment, **own}, metrics_port=port)


@contextmanager
def database() -> Iterator[Engine]:
    """An empty metadata store on a PostgreSQL of its own."""
    with parts() as platform:
        engine = create_engine(platform.urls.database_url)
        try:
            yield engine
        finally:
            engine.dispose()
