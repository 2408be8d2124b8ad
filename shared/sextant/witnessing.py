"""An audit log, checkpoints kept elsewhere, and the notary's public key: fetched, kept, and put to the check."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sextant.auditing import Tampered, Verdict, verify
from sextant.errors import BadInput
from sextant_shared.contracts import notes
from sextant_shared.contracts.notes import BadNote, Checkpoint, Verifier

if TYPE_CHECKING:
    from sextant._requests import JobLike
    from sextant.client import Client

FRESH_S = 300.0
"""So far may the server's clock and the one here differ."""


def read_verifier(path: Path) -> Verifier:
    """The notary's public key. Raises BadInput."""
    try:
        return Verifier.parse(path.read_text())
    except (OSError, UnicodeDecodeError, BadNote) as error:
        raise BadInput(f"{path}: {error}", field="pubkey") from None


def read_checkpoints(path: Path, verifier: Verifier) -> list[Checkpoint]:
    """The checkpoints of a file, or of all files of a directory, the smallest first.

    Raises BadInput where there is nothing to read, Tampered where a note is not signed with the key.
    """
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        texts = [(file, file.read_text()) for file in files if file.is_file()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}", field="checkpoints") from None
    found: list[Checkpoint] = []
    for file, text in texts:
        for number, note in enumerate(notes.split(text), 1):
            try:
                found.append(Checkpoint.parse(verifier.open(note)))
            except BadNote as error:
                raise Tampered(f"{file.name}, checkpoint {number}: {error}") from None
    return sorted(found, key=lambda one: one.size)


def verify_file(log: Path, pubkey: Path, checkpoints: Path, job: str | None = None) -> Verdict:
    """Check a log that was exported to a file, all of it or one job's rows. Raises BadInput."""
    try:
        with log.open("rb") as file:
            return _verify(file, pubkey, checkpoints, job)
    except OSError as error:
        raise BadInput(f"{log} cannot be read: {error.strerror or error}", field="log") from None


def verify_server(client: Client, pubkey: Path, checkpoints: Path, job: JobLike | None = None) -> Verdict:
    """Fetch a server's log as it is now, all of it or what one job's rows need, and check it.

    Raises BadInput for files that cannot be read, and what the client raises.
    """
    read_verifier(pubkey)
    with tempfile.TemporaryFile() as file:
        client.export_audit(file.write, job)
        now = datetime.now(UTC)
        file.seek(0)
        verdict = _verify(file, pubkey, checkpoints)
        if verdict.verdict == "ok" and abs((now - datetime.fromisoformat(verdict.at)).total_seconds()) > FRESH_S:
            reason = f"the server says that the log is of {verdict.at}; by the clock here it is {now.isoformat()}"
            return replace(verdict, verdict="incomplete", reason=reason)
    return verdict


def _verify(log: IO[bytes], pubkey: Path, checkpoints: Path, job: str | None = None) -> Verdict:
    # The checkpoints are read after the log was made, so that they are over all of it.
    try:
        signed = read_checkpoints(checkpoints, read_verifier(pubkey))
    except Tampered as found:
        return Verdict("tampered", 0, 0, 0, 0, 0, 0, "", str(found))
    return verify(log, signed, job)


def witness(client: Client, pubkey: Path, directory: Path) -> tuple[int, int]:
    """Fetch the checkpoints that a directory has not got, and keep them there if the key has signed them.

    How many came, and over how many rows the last is. Raises BadInput, and what the client raises.
    """
    verifier = read_verifier(pubkey)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        had = read_checkpoints(directory, verifier)
        last = had[-1].size if had else 0
        added = 0
        while found := client.audit_checkpoints(last):
            last = max(Checkpoint.parse(verifier.open(note)).size for note in found)
            with (directory / datetime.now(UTC).strftime("%Y-%m-%d")).open("a") as file:
                file.writelines(found)
            added += len(found)
    except (Tampered, BadNote) as error:
        raise BadInput(f"a checkpoint is not the notary's: {error}", field="pubkey") from None
    except OSError as error:
        raise BadInput(f"{directory} cannot be used: {error.strerror or error}", field="directory") from None
    return added, last
