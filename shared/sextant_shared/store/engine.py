"""Connections to the metadata store."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import DisconnectionError

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

CONNECT: dict[str, Any] = {
    # Seconds: a lock that is not had by then is a bug elsewhere, and waiting for ever would hide it.
    "options": "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s",
    "connect_timeout": 5,
    # A server whose host or network went away says nothing: what it does not acknowledge for so long is an error.
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 30,
}


def connect(url: str, *, size: int = 4) -> Engine:
    """A pool of up to `size` connections for threads; those that the server has closed are replaced before use."""
    engine = create_engine(url, pool_size=size, max_overflow=0, connect_args=CONNECT)
    event.listen(engine, "checkout", _refuse_closed)
    return engine


def connect_async(url: str, *, size: int = 8, **options: Any) -> AsyncEngine:
    """The same for asyncio."""
    # Only here: workers have threads.
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url, pool_size=size, max_overflow=0, connect_args=CONNECT, **options)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def connect_autocommit(url: str, *, size: int) -> AsyncEngine:
    """The same for single statements that are a transaction each: one round trip."""
    return connect_async(url, size=size, isolation_level="AUTOCOMMIT")


def _refuse_closed(_: object, record: Any, __: object) -> None:
    """A look at the socket, where `pool_pre_ping` would ask the server: an idle connection has only its end to tell."""
    socket = record.driver_connection.fileno()
    poll = select.poll()
    poll.register(socket, select.POLLIN)
    if poll.poll(0):
        raise DisconnectionError("the server has closed the connection")
