"""Connections to the metadata store."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

# Seconds: a lock that is not had by then is a bug elsewhere, and waiting for ever would hide it.
OPTIONS = "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s"


def connect(url: str, *, size: int = 4) -> Engine:
    """A pool of up to `size` connections for threads; dead ones are replaced before use."""
    return create_engine(
        url, pool_size=size, max_overflow=0, pool_pre_ping=True, connect_args={"options": OPTIONS, "connect_timeout": 5}
    )


def connect_autocommit(url: str, *, size: int) -> AsyncEngine:
    """For single statements that are a transaction each: one round trip, and no check of the connection before it.

    The caller sees the error of a connection that died, and may try again.
    """
    return create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        connect_args={"options": OPTIONS, "connect_timeout": 5},
    )


def connect_async(url: str, *, size: int = 8) -> AsyncEngine:
    """The same for asyncio."""
    return create_async_engine(
        url, pool_size=size, max_overflow=0, pool_pre_ping=True, connect_args={"options": OPTIONS, "connect_timeout": 5}
    )
