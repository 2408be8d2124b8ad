"""The metadata store as files, one a table, and back; and which artefacts its rows name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from sqlalchemy import Connection, Identity, Table, func, select, text, update

from sextant_shared.artefacts import File
from sextant_shared.store import tables as t
from sextant_shared.store.versions import prefix_of

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table's rows in PostgreSQL's COPY text format, with the columns they have."""

    table: str
    columns: list[str]
    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Named:
    """A file of the artefact store, below a prefix."""

    prefix: str
    file: File


def revision(conn: Connection) -> str:
    """The migration that the database is at."""
    return MigrationContext.configure(conn).get_current_revision() or ""


def save(conn: Connection, directory: Path) -> Iterator[TableFile]:
    """Write every table to a file of its name; the connection is at REPEATABLE READ, so that they are of one moment."""
    for table in t.metadata.sorted_tables:
        columns = [column.name for column in table.columns]
        digest, size = hashlib.sha256(), 0
        with _cursor(conn) as cursor, (directory / table.name).open("wb") as file:
            with cursor.copy(f"COPY {table.name} ({_listed(columns)}) TO STDOUT") as copy:
                for block in copy:
                    size += file.write(block)
                    digest.update(block)
            rows = cursor.rowcount
        yield TableFile(table.name, columns, rows, size, digest.hexdigest())


def is_empty(conn: Connection) -> bool:
    """Whether nothing was ever done with this store."""
    return not conn.execute(select(select(t.audit).exists() | select(t.jobs).exists())).scalar_one()


def prepare(conn: Connection, names: Iterable[str]) -> None:
    """Make room for the rows of a dump: what migrations put in goes, and no trigger acts until `settle`."""
    known = set(names)
    # Artefacts are copied before the end of the transaction: it may take long.
    conn.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    for table in t.metadata.sorted_tables:
        if table.name in known:
            conn.execute(text(f"ALTER TABLE {table.name} DISABLE TRIGGER USER"))
    conn.execute(text(f"TRUNCATE {', '.join(sorted(known))}"))


def load(conn: Connection, saved: TableFile, blocks: Iterable[bytes]) -> bool:
    """Read a table's rows, tables in the order that `save` gave them in; whether they are those that were saved."""
    digest = hashlib.sha256()
    with _cursor(conn) as cursor:
        with cursor.copy(f"COPY {saved.table} ({_listed(saved.columns)}) FROM STDIN") as copy:
            for block in blocks:
                digest.update(block)
                copy.write(block)
        return bool(cursor.rowcount == saved.rows and digest.hexdigest() == saved.sha256)


def settle(conn: Connection, names: Iterable[str]) -> None:
    """After the last row: triggers act again, and numbers go on behind the last that was given."""
    known = set(names)
    for table in t.metadata.sorted_tables:
        if table.name not in known:
            continue
        conn.execute(text(f"ALTER TABLE {table.name} ENABLE TRIGGER USER"))
        for column in table.columns:
            if isinstance(column.identity, Identity):
                _go_on(conn, table, column.name)
    # The bytes of uploads that were under way are not in the backup: they begin again.
    conn.execute(update(t.uploads).where(~t.uploads.c.completed).values(received=0))


def _go_on(conn: Connection, table: Table, column: str) -> None:
    sequence = func.pg_get_serial_sequence(table.name, column)
    last = select(func.max(table.c[column])).scalar_subquery()
    conn.execute(select(func.setval(sequence, func.coalesce(last, 0) + 1, False)))


def artefacts(conn: Connection) -> Iterator[Named]:
    """The files that rows name: of every manifest, of uploads, and of the checkpoints of jobs that may go on."""
    for row in conn.execute(select(t.manifests.c.job_id, t.manifests.c.fence, t.manifests.c.files)):
        yield from (Named(prefix_of(row.job_id, row.fence), File(**file)) for file in row.files)
    for row in conn.execute(select(t.uploads).where(t.uploads.c.completed)):
        yield Named(f"uploads/{row.id}", File(row.path, row.size, row.sha256))
    c = t.checkpoints.c
    query = select(c.job_id, c.path, c.files).join(t.jobs, t.jobs.c.id == c.job_id).where(t.jobs.c.state != "SUCCEEDED")
    for row in conn.execute(query):
        yield from (Named(f"{row.job_id}/{row.path}", File(**file)) for file in row.files)


def _cursor(conn: Connection) -> Any:
    return conn.connection.driver_connection.cursor()  # type: ignore[union-attr] # psycopg's own


def _listed(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
