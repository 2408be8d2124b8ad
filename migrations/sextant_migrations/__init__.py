"""The Alembic chain of the metadata store: expand first, contract a release later, so that the last one still runs."""
