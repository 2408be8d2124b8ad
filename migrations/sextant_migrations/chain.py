"""Run the chain: to the newest version, back to none, or compare the database with the declared tables."""

from __future__ import annotations

from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, text

from sextant_shared.store.tables import metadata

MIGRATION_LOCK = 0x5E_87_A4_71


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Bring the database to `revision`. Safe to call from several processes at once: they take turns."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    command.upgrade(_config(connection), revision)


def downgrade(connection: Connection, revision: str) -> None:
    """Take the database back to `revision`; "base" removes everything."""
    command.downgrade(_config(connection), revision)


def drift(connection: Connection) -> list[Any]:
    """The differences between the database and the declared tables; none are expected."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", "sextant_migrations:")
    config.attributes["connection"] = connection
    return config
