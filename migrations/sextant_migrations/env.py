"""Alembic's entry: runs the chain over the connection that the caller puts into the configuration's attributes."""

from alembic import context

from sextant_shared.store.tables import metadata

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata, compare_type=True, compare_server_default=True)
with context.begin_transaction():
    context.run_migrations()
