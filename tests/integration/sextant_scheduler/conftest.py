"""A real API process on the real servers; no control process, so that jobs stay as they were accepted."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, create_engine, text

from sextant.stack.running import RunningServers
from sextant.stack.servers import free_port
from sextant_scheduler.store.control import record_node
from sextant_shared.contracts.messages import NodeAlive
from sextant_shared.security import Secret

START_S = 30.0


@dataclass(frozen=True)
class Api:
    """The running API: a client with the admin key, and the store behind it."""

    http: httpx.Client
    engine: Engine
    environment: dict[str, str]

    def key(self, *scopes: str) -> tuple[str, str]:
        """A new key with these scopes: its id and secret."""
        made = self.http.post("/v1/keys", json={"name": "k", "scopes": list(scopes)}).json()
        return made["id"], made["secret"]

    def hold_node(self, name: str, slots: int) -> None:
        """Let there be a live trainer node."""
        with self.engine.begin() as conn:
            record_node(conn, NodeAlive(name=name, instance="test", slots=slots))

    def submit(self, spec: dict[str, Any] | None = None, key: str | None = None) -> dict[str, Any]:
        """An accepted job; a probe unless told otherwise."""
        headers = {"Idempotency-Key": key} if key else {}
        answer = self.http.post("/v1/jobs", json=spec or {"kind": "probe"}, headers=headers)
        assert answer.status_code == 202, answer.text
        made: dict[str, Any] = answer.json()
        return made


@pytest.fixture(scope="session")
def api(servers: RunningServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """Started once; tests share its database and so must not assume it empty."""
    work = tmp_path_factory.mktemp("api")
    admin = create_engine(servers.urls.database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text("CREATE DATABASE api"))
    url = servers.urls.database_url.replace("@/postgres", "@/api")
    port, key = free_port(0), str(Secret.new())
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SEXTANT_")},
        "SEXTANT_DATABASE_URL": url,
        "SEXTANT_REDIS_URL": servers.urls.redis_url,
        "SEXTANT_NATS_URL": servers.urls.nats_url,
        "SEXTANT_ARTEFACTS_URL": f"file://{work}/artefacts",
        "SEXTANT_WORK_DIR": f"{work}/work",
        "SEXTANT_API_PORT": str(port),
        "SEXTANT_ADMIN_KEY": key,
    }
    migrate = [sys.executable, "-m", "sextant_scheduler", "migrate"]
    subprocess.run(migrate, env={**environment, **servers.accounts.roles()}, check=True)
    # As in the stack: with its own account on each server, and no rights but its own.
    accounts = servers.accounts.urls("scheduler-api")
    own_url = accounts["SEXTANT_DATABASE_URL"].replace("@/postgres", "@/api")
    own = {**environment, **accounts, "SEXTANT_DATABASE_URL": own_url}
    with (Path(work) / "api.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "sextant_scheduler", "api"], env=own, stderr=log)
    http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {key}"}, timeout=30)
    engine = create_engine(url)
    try:
        _wait_until_ready(http)
        yield Api(http, engine, environment)
    finally:
        process.terminate()
        process.wait(20)
        engine.dispose()
        admin.dispose()


def _wait_until_ready(http: httpx.Client) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            if http.get("/v1/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the API did not start")
