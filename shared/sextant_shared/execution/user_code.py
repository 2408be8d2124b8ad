"""A user's own code on its way into a process: allowed, verified, unpacked, and what it may reach."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from sextant_shared import archives
from sextant_shared.artefacts import hash_file
from sextant_shared.confinement.confining import confine, refusal
from sextant_shared.contracts.limits import UserCode
from sextant_shared.errors import InvalidInput
from sextant_shared.execution.workbench import Workbench

FIELD = "code"


def archive_of(bench: Workbench) -> Path:
    """The archive of the order's code. Raises InvalidInput where it is not the one that was recorded."""
    record = bench.order.input(FIELD)
    archive = Path(record.path or "") / record.name
    verify(archive, record.digest)
    return archive


def verify(archive: Path, sha256: str) -> None:
    """Raise InvalidInput for other bytes than were recorded."""
    if hash_file(archive).sha256 != sha256:
        raise InvalidInput(f"the code is not what was uploaded: its SHA-256 is not {sha256}", field=FIELD)


def unpack(archive: Path, target: Path, level: UserCode) -> Path:
    """Unpack code to be run. Raises InvalidInput where none is run here, and for an archive that is not accepted."""
    if (refused := refusal(level)) is not None:
        raise refused
    if not archives.is_archive(archive):
        accepted = ", ".join(archives.SUFFIXES)
        raise InvalidInput(f"{archive.name[:80]!r} is no archive of code", field=FIELD, accepted=accepted)
    return archives.unpack(archive, target, field=FIELD)


def settle(directory: Path, readable: Iterable[Path], writable: Iterable[Path], descriptors: Iterable[int]) -> None:
    """Make this process one in which a user's function may be called: it starts threads alone, and cannot leave.

    Of open descriptors it keeps the standard ones and `descriptors`; temporary files go below `directory`.
    """
    kept = {0, 1, 2, *descriptors}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                # That of the listing itself.
                continue
    temporary = directory / "tmp"
    temporary.mkdir(exist_ok=True)
    os.environ["TMPDIR"] = os.environ["HOME"] = str(temporary)
    tempfile.tempdir = None
    confine(readable, [directory, *writable], processes=False)
