"""Connections to the store, of which the server may close some while they idle."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from sextant_shared.store.engine import connect, connect_async, connect_autocommit

OTHERS = text(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid = :pid"
)
PID = text("SELECT pg_backend_pid()")


def end(engine: Engine, pid: int) -> None:
    """Let the server end one of its connections, and wait until it has."""
    with engine.connect() as conn:
        assert conn.execute(OTHERS, {"pid": pid}).scalar_one()


def test_a_connection_that_the_server_closed_while_idle_is_replaced_unseen(database: Engine, database_url: str) -> None:
    engine = connect(database_url, size=1)
    with engine.connect() as conn:
        pid = conn.execute(PID).scalar_one()
    with engine.connect() as conn:
        assert conn.execute(PID).scalar_one() == pid  # the same while it lives
    end(database, pid)
    with engine.connect() as conn:
        assert conn.execute(PID).scalar_one() != pid
    engine.dispose()


@pytest.mark.parametrize("make", [connect_async, connect_autocommit])
def test_the_same_under_asyncio(database: Engine, database_url: str, make: object) -> None:
    engine: AsyncEngine = make(database_url, size=1)  # type: ignore[operator]

    def pid_of(conn: Connection) -> int:
        return int(conn.execute(PID).scalar_one())

    async def run() -> tuple[int, int]:
        async with engine.connect() as conn:
            first = await conn.run_sync(pid_of)
        await asyncio.to_thread(end, database, first)
        async with engine.connect() as conn:
            second = await conn.run_sync(pid_of)
        await engine.dispose()
        return first, second

    first, second = asyncio.run(run())
    assert first != second


def test_one_that_is_closed_in_the_middle_of_a_transaction_is_an_error(database: Engine, database_url: str) -> None:
    engine = connect(database_url, size=1)
    with engine.connect() as conn:
        end(database, conn.execute(PID).scalar_one())
        with pytest.raises(DBAPIError):
            conn.execute(PID)
    with engine.connect() as conn:
        conn.execute(PID)
    engine.dispose()
