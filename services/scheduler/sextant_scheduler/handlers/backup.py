"""Backup and restore: the metadata store of one moment, the artefacts that it names, and the notary's key, in one tar.

The first member, `backup.json`, says what the others are, with their hashes. A restore is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Engine

from sextant_migrations import chain
from sextant_scheduler.store import dump
from sextant_scheduler.store.dump import Named, TableFile
from sextant_scheduler.store.sealing import now
from sextant_shared.artefacts import Artefacts, File, safe_path
from sextant_shared.errors import InvalidInput, Unavailable
from sextant_shared.store import audit

FORMAT = "sextant-backup/1"
INDEX = "backup.json"
NOTARY_KEY = "notary/key"
SAY_EVERY_S = 1.0
Say = Callable[[str], None]


def write(engine: Engine, artefacts: Artefacts, notary: Path | None, target: Path, say: Say) -> None:
    """Write a backup to the new file `target`. Raises InvalidInput where it is there already or cannot be written."""
    partial = target.with_name(target.name + ".partial")
    if target.exists():
        raise InvalidInput(f"{target} is there already", field="FILE", accepted="a new file")
    try:
        with tempfile.TemporaryDirectory(dir=target.absolute().parent, prefix=".backup-") as directory:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                _write(engine, artefacts, notary, stream, Path(directory), say)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(target)
    except OSError as error:
        raise InvalidInput(f"{target} cannot be written: {error.strerror or error}", field="FILE") from None
    finally:
        partial.unlink(missing_ok=True)
    say(f"{target}: {_size(target.stat().st_size)}")


def _write(
    engine: Engine, artefacts: Artefacts, notary: Path | None, stream: IO[bytes], directory: Path, say: Say
) -> None:
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn:
        at, revision = now(conn), dump.revision(conn)
        tables = list(dump.save(conn, directory))
        files = list({(one.prefix, one.file.path): one for one in dump.artefacts(conn)}.values())
    say(f"{sum(table.rows for table in tables)} rows of {len(tables)} tables, as of {at}")
    index = {
        "format": FORMAT,
        "at": at,
        "revision": revision,
        "tables": [asdict(table) for table in tables],
        "artefacts": [{"prefix": one.prefix, **one.file.plain()} for one in files],
    }
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        _add_bytes(tar, INDEX, json.dumps(index).encode())
        if notary is not None and (notary / "key").is_file():
            _add_bytes(tar, NOTARY_KEY, (notary / "key").read_bytes())
        for table in tables:
            with (directory / table.table).open("rb") as file:
                tar.addfile(_member(f"tables/{table.table}", table.size), file)
        progress = _Progress(files, "saved", say)
        for one in files:
            # Bytes that are not what the manifest says end the backup here, and not on the day that it is needed.
            blocks = _checked(artefacts.open(one.prefix, one.file.path), one)
            tar.addfile(_member(_name(one), one.file.size), _Reader(blocks))
            progress.add(one)


def restore(engine: Engine, artefacts: Artefacts, notary: Path | None, source: Path, say: Say) -> None:
    """Restore a backup into an empty database, and its artefacts into the store.

    Raises InvalidInput where the database is not empty, the notary has a key, or the file is no backup, is damaged, or
    is of a later version.
    """
    if notary is not None and (notary / "key").exists():
        raise InvalidInput(f"{notary} has a key already: the backup's own belongs there", field="SEXTANT_NOTARY_DIR")
    try:
        with source.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            _restore(engine, artefacts, notary, _Members(tar), say)
    except (OSError, tarfile.TarError) as error:
        raise InvalidInput(f"{source} cannot be read as a backup: {error}", field="FILE") from None


def _restore(engine: Engine, artefacts: Artefacts, notary: Path | None, members: _Members, say: Say) -> None:
    index = _index(members)
    tables = [TableFile(**table) for table in index["tables"]]
    names = [table.table for table in tables]
    with engine.begin() as conn:
        _migrate(conn, index["revision"])
        if not dump.is_empty(conn):
            raise InvalidInput("the database is not empty: a backup is restored into a new one", field="database")
        dump.prepare(conn, names)
        key = members.maybe(NOTARY_KEY)
        for table in tables:
            if not dump.load(conn, table, members.blocks(f"tables/{table.table}")):
                raise InvalidInput(f"the table {table.table} of the backup is damaged", field="FILE")
        dump.settle(conn, names)
        say(f"{sum(table.rows for table in tables)} rows of {len(tables)} tables, as of {index['at']}")
        _restore_artefacts(index, artefacts, members, say)
        chain.upgrade(conn)
        detail = {"at": index["at"]}
        audit.append(conn, "store", audit.STORE, tenant="default", actor="operator", event="restored", detail=detail)
        if key is not None and notary is not None:
            _place_key(notary, key)


def _restore_artefacts(index: dict[str, Any], artefacts: Artefacts, members: _Members, say: Say) -> None:
    files = [Named(one["prefix"], File(one["path"], one["size"], one["sha256"])) for one in index["artefacts"]]
    progress = _Progress(files, "restored", say)
    for one in files:
        artefacts.put(safe_path(one.prefix).as_posix(), one.file, members.blocks(_name(one)))
        progress.add(one)


def _index(members: _Members) -> dict[str, Any]:
    try:
        index: dict[str, Any] = json.loads(b"".join(members.blocks(INDEX)))
    except ValueError:
        index = {}
    if index.get("format") != FORMAT:
        raise InvalidInput(f"this is no backup: {INDEX} does not say {FORMAT}", field="FILE")
    return index


def _migrate(conn: Any, revision: str) -> None:
    from alembic.util import CommandError

    try:
        chain.upgrade(conn, revision)
    except CommandError:
        reason = f"the backup is of a later version, whose database is at {revision[:40]}"
        raise InvalidInput(reason, field="FILE", accepted="backups of this version and of earlier ones") from None


def _place_key(notary: Path, key: bytes) -> None:
    notary.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(notary / "key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)


class _Members:
    """A tar's members, one after the other, each under the name that is expected."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self._next = tar.next()

    def blocks(self, name: str) -> Iterator[bytes]:
        """The bytes of the member that comes now. Raises InvalidInput where it is another one."""
        member = self._next
        if member is None or member.name != name or not member.isreg():
            found = member.name[:80] if member else "its end"
            raise InvalidInput(f"the backup has {found!r} where {name!r} should be: it is damaged", field="FILE")
        stream = self._tar.extractfile(member)
        while stream and (block := stream.read(dump.CHUNK)):
            yield block
        self._next = self._tar.next()

    def maybe(self, name: str) -> bytes | None:
        """The whole member that comes now, if it has this name."""
        return b"".join(self.blocks(name)) if self._next is not None and self._next.name == name else None


class _Reader(io.RawIOBase):
    """Blocks as a file to read from."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and (block := next(self._blocks, b"")):
            self._rest += block
        taken, self._rest = self._rest[:size], self._rest[size:]
        return taken


def _checked(blocks: Iterable[bytes], one: Named) -> Iterator[bytes]:
    digest, size = hashlib.sha256(), 0
    for block in blocks:
        digest.update(block)
        size += len(block)
        yield block
    if size != one.file.size or digest.hexdigest() != one.file.sha256:
        raise Unavailable(f"the artefact {one.file.path} of {one.prefix} does not match its hash")


class _Progress:
    def __init__(self, files: list[Named], done: str, say: Say) -> None:
        self._count, self._bytes = len(files), sum(one.file.size for one in files)
        self._files = self._size = 0
        self._done, self._say = done, say
        self._told = time.monotonic()

    def add(self, one: Named) -> None:
        self._files += 1
        self._size += one.file.size
        last = self._files == self._count
        if last or time.monotonic() - self._told > SAY_EVERY_S:
            self._told = time.monotonic()
            share = f"{_size(self._size)} of {_size(self._bytes)}"
            self._say(f"{self._files} of {self._count} artefacts {self._done}, {share}")


def _name(one: Named) -> str:
    return f"artefacts/{one.prefix}/{one.file.path}"


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o600
    return member


def _add_bytes(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_member(name, len(content)), io.BytesIO(content))


def _size(value: int) -> str:
    return f"{value / 2**20:.1f} MiB"
