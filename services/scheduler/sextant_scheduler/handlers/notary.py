"""The notary: seals the audit log. It alone has the key, and signs nothing that contradicts what it signed before."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection

from sextant_scheduler.store import sealing
from sextant_shared.contracts import notes
from sextant_shared.contracts.merkle import Tree
from sextant_shared.contracts.notes import BadNote, Checkpoint, Signer

BATCH = 1000
ORIGIN = "sextant-audit-"


class Refused(Exception):
    """The notary does not sign: the log is not what it signed before, or its own files are not whole."""


class Seals:
    """The notary's directory, outside the database: `key`, `key.pub`, and `checkpoints/`, one file a day (UTC)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._checkpoints.mkdir(exist_ok=True)

    @property
    def _checkpoints(self) -> Path:
        return self._directory / "checkpoints"

    def signer(self, *, fresh: bool) -> Signer:
        """The key; made where there is none and `fresh` says that nothing was signed. Raises Refused."""
        file = self._directory / "key"
        try:
            signer = Signer.parse(file.read_text())
        except FileNotFoundError:
            if not fresh or self.notes():
                raise Refused(f"{file} is missing, and checkpoints were signed with it: put it back") from None
            signer = Signer.new(ORIGIN + secrets.token_hex(4))
            _write(file, signer.private + "\n", os.O_EXCL, 0o600)
        except BadNote as error:
            raise Refused(f"{file}: {error}") from None
        (self._directory / "key.pub").write_text(f"{signer.verifier}\n")
        return signer

    def notes(self) -> list[str]:
        """The checkpoints that were signed, the first first."""
        return [note for file in sorted(self._checkpoints.iterdir()) for note in notes.split(file.read_text())]

    def append(self, note: str) -> None:
        """Keep a checkpoint; it is on the disk when this returns."""
        _write(self._checkpoints / datetime.now(UTC).strftime("%Y-%m-%d"), note, os.O_APPEND, 0o644)

    def mend(self, stored: list[str]) -> None:
        """Take away the end of the newest file where it is one of these notes, cut off by a full disk or a crash."""
        for file in sorted(self._checkpoints.iterdir())[-1:]:
            written = file.read_bytes()
            # It may end within a character.
            *_, tail = ["", *notes.split(written.decode(errors="surrogateescape"))]
            last = tail.encode(errors="surrogateescape")
            if last and any(note != last and note.startswith(last) for note in map(str.encode, stored)):
                os.truncate(file, len(written) - len(last))


def _write(file: Path, text: str, flag: int, mode: int) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | flag, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)


@dataclass(frozen=True, slots=True)
class Sealed:
    """A batch that the database has, once the transaction is committed: the signed checkpoint, and the tree then."""

    note: str
    tree: Tree
    rows: int


class Notary:
    """Grows the tree over the log's rows and signs its root."""

    def __init__(self, conn: Connection, seals: Seals) -> None:
        """Compute the tree and compare it with each checkpoint signed before. Raises Refused where they differ."""
        self._seals = seals
        stored = sealing.notes(conn, -1)
        self._signer = seals.signer(fresh=not stored)
        self._tree = Tree()
        seals.mend(stored)
        kept = [self._open(note) for note in seals.notes()]
        signed = kept + [self._open(note) for note in stored]
        self._compare(conn, sorted(signed, key=lambda one: one.size))
        # A crash between the commit and the file.
        last = max((one.size for one in kept), default=-1)
        for note in stored:
            if self._open(note).size > last:
                seals.append(note)

    def _open(self, note: str) -> Checkpoint:
        try:
            return Checkpoint.parse(self._signer.verifier.open(note))
        except BadNote as error:
            raise Refused(f"a checkpoint is not the notary's own: {error}") from None

    def _compare(self, conn: Connection, signed: list[Checkpoint]) -> None:
        roots = iter(signed)
        expected = next(roots, None)
        try:
            for leaf in sealing.leaves(conn):
                self._tree.append(leaf.tree_hash)
                while expected is not None and expected.size <= self._tree.size:
                    if expected.root != self._tree.root():
                        raise Refused(f"the first {expected.size} rows are not those that were signed at {expected.at}")
                    expected = next(roots, None)
        except LookupError as error:
            raise Refused(str(error)) from None
        if expected is not None:
            raise Refused(f"the log has {self._tree.size} sealed rows; {expected.size} were signed at {expected.at}")

    @property
    def size(self) -> int:
        """How many rows are sealed."""
        return self._tree.size

    def seal(self, conn: Connection) -> Sealed | None:
        """Seal the next BATCH rows in the caller's transaction, to be given to `publish` once it is committed.

        Raises Refused where a row that waited is gone, or another notary has sealed in between.
        """
        if (size := sealing.lock_size(conn)) != self.size:
            raise Refused(f"{size} rows are sealed, and this notary has sealed {self.size}: another one is at work")
        try:
            new = sealing.take(conn, BATCH)
        except LookupError as error:
            raise Refused(str(error)) from None
        if not new:
            return None
        tree = self._tree.copy()
        for leaf in new:
            tree.append(leaf.tree_hash)
        checkpoint = Checkpoint(self._signer.name, tree.size, tree.root(), sealing.now(conn))
        note = self._signer.sign(checkpoint.text())
        sealing.add(conn, self._tree.size, new, checkpoint, note)
        return Sealed(note, tree, len(new))

    def publish(self, sealed: Sealed) -> None:
        """What `seal` wrote is committed: go on from there, and keep the note outside the database."""
        self._tree = sealed.tree
        self._seals.append(sealed.note)
