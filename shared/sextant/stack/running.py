"""The three servers without the services, as a context: for tests and benchmarks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sextant.stack import processes
from sextant.stack.accounts import Accounts
from sextant.stack.home import Home
from sextant.stack.servers import ServerUrls, free_port
from sextant.stack.supervisor import Say, Supervisor

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class RunningServers:
    """Where the servers are, and their processes by name."""

    home: Home
    urls: ServerUrls
    pids: dict[str, int]
    accounts: Accounts


@contextmanager
def running_servers(directory: Path, say: Say = lambda name, line: None) -> Iterator[RunningServers]:
    """Start PostgreSQL, Valkey and NATS in `directory`, as durable as ever, and stop them at the end."""
    home = Home.prepare(directory)
    credentials, nats_port = home.credentials(), free_port(0)
    supervisor = Supervisor(home, say)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="servers", daemon=True)
    thread.start()

    def run(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(TIMEOUT_S)

    try:
        run(supervisor.start(processes.servers(home, credentials, nats_port, {}), TIMEOUT_S))
        urls = processes.urls(home, credentials, nats_port, {})
        yield RunningServers(home, urls, supervisor.pids(), Accounts(home, credentials, nats_port))
    finally:
        run(supervisor.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
