"""Fixtures that all tests share: the real servers, and a fresh database on them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import Phase, settings
from sqlalchemy import Engine, create_engine, text

from sextant.stack.running import RunningServers, running_servers
from sextant_migrations import chain

# For whoever only wants to know whether there is a failure: the smallest one is not looked for.
settings.register_profile("hasty", phases=(Phase.explicit, Phase.generate))


@contextmanager
def _servers() -> Iterator[RunningServers]:
    # Not below pytest's own directory: the account that runs PostgreSQL for root could not come to it.
    directory = Path(tempfile.mkdtemp(prefix="sextant-"))
    directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    try:
        with running_servers(directory) as running:
            yield running
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def servers() -> Iterator[RunningServers]:
    """PostgreSQL, Valkey and NATS as the local stack runs them, started once."""
    with _servers() as running:
        yield running


@pytest.fixture
def own_servers() -> Iterator[RunningServers]:
    """The same, for a test that kills one of them."""
    with _servers() as running:
        yield running


@pytest.fixture
def database_url(servers: RunningServers) -> Iterator[str]:
    """The URL of an empty database of its own."""
    name = f"test_{uuid4().hex[:12]}"
    admin = create_engine(servers.urls.database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text(f"CREATE DATABASE {name}"))
    yield servers.urls.database_url.replace("@/postgres", f"@/{name}")
    with admin.connect() as conn:
        conn.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """An engine on a database that has all migrations."""
    engine = create_engine(database_url)
    with engine.begin() as conn:
        chain.upgrade(conn)
    yield engine
    engine.dispose()
