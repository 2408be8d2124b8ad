"""Unpacking an uploaded archive without trusting it: no links, no way out of the folder, no bomb."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sextant_shared.artefacts import safe_path
from sextant_shared.errors import InvalidInput

MAX_FILES = 1_000_000
MAX_BYTES = 64 * 2**30
MAX_RATIO = 200
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
CHUNK = 1 << 20
UNREADABLE = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, RuntimeError, NotImplementedError),
)
"""What the libraries raise for damage, passwords, and compression that they do not know."""


def is_archive(path: Path) -> bool:
    """Whether the file's name says that it is one."""
    return path.name.lower().endswith(SUFFIXES)


def unpack(archive: Path, target: Path) -> Path:
    """Unpack all regular files below `target`. Raises InvalidInput for anything that should not be in an archive."""
    limit = min(MAX_BYTES, max(MAX_RATIO * archive.stat().st_size, 1 << 20))
    seen: set[str] = set()
    written = 0
    try:
        for name, stream in _members(archive):
            where = str(safe_path(name))
            if where in seen or len(seen) >= MAX_FILES:
                raise InvalidInput(f"the archive holds {name[:80]!r} twice, or over {MAX_FILES} files", field="source")
            seen.add(where)
            written = _write(target / where, stream, written, limit)
    except UNREADABLE as error:
        raise InvalidInput(
            f"the archive cannot be read: {error}", field="source", accepted=", ".join(SUFFIXES)
        ) from None
    return target


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if (info.external_attr >> 16) & 0o170000 == 0o120000:
                    raise InvalidInput(f"the archive holds a link: {info.filename[:80]!r}", field="source")
                if not info.is_dir():
                    with packed.open(info) as stream:
                        yield info.filename, stream
        return
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            stream_ = tar.extractfile(member) if member.isreg() else None
            if stream_ is None:
                raise InvalidInput(f"the archive holds a link or device: {member.name[:80]!r}", field="source")
            with stream_:
                yield member.name, stream_


def _write(path: Path, stream: IO[bytes], written: int, limit: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        while chunk := stream.read(CHUNK):
            written += len(chunk)
            if written > limit:
                raise InvalidInput(f"the archive unpacks to more than {limit} bytes", field="source")
            out.write(chunk)
    return written
