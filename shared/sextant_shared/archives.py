"""Unpacking an uploaded archive without trusting it: no links, no way out of the folder, no bomb."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import IO

from sextant_shared.artefacts import safe_path
from sextant_shared.damage import Damaged, decoding
from sextant_shared.errors import InvalidInput

MAX_FILES = 1_000_000
MAX_BYTES = 64 * 2**30
MAX_RATIO = 200
SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz")
CHUNK = 1 << 20
TAIL = 1 << 20
"""How far behind the last file of a tar is looked for what does not belong there."""


def is_archive(path: Path) -> bool:
    """Whether the file's name says that it is one."""
    return path.name.lower().endswith(SUFFIXES)


def is_streamed(path: Path) -> bool:
    """Whether a file in it can be come to only through those before."""
    return path.name.lower().endswith((".tar.gz", ".tgz"))


def unpack(archive: Path, target: Path, only: Container[str] | None = None, *, field: str = "source") -> Path:
    """Unpack all regular files below `target`, or those of `only`.

    Raises InvalidInput for anything that should not be in an archive, of `field`, which named it.
    """
    target.mkdir(parents=True, exist_ok=True)
    try:
        with decoding(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError):
            _unpack(archive, target, only)
    except InvalidInput as error:
        raise InvalidInput(error.message, field=field, accepted=error.accepted) from None
    except Damaged as error:
        raise InvalidInput(f"the archive cannot be read: {error}", field=field, accepted=", ".join(SUFFIXES)) from None
    return target


def _unpack(archive: Path, target: Path, only: Container[str] | None) -> None:
    limit = min(MAX_BYTES, max(MAX_RATIO * archive.stat().st_size, 1 << 20))
    seen: set[str] = set()
    written = 0
    for name, stream in _members(archive):
        where = str(safe_path(name))
        if where in seen or len(seen) >= MAX_FILES:
            raise InvalidInput(f"the archive holds {name[:80]!r} twice, or over {MAX_FILES} files")
        seen.add(where)
        if only is not None and where not in only:
            continue
        written = _write(target / where, stream, written, limit)


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    return _of_zip(archive) if archive.name.lower().endswith(".zip") else _of_tar(archive)


def _of_zip(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            if (info.external_attr >> 16) & 0o170000 == 0o120000:
                raise InvalidInput(f"the archive holds a link: {info.filename[:80]!r}")
            if not info.is_dir():
                with packed.open(info) as stream:
                    yield info.filename, stream


def _of_tar(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive) as tar:
        for member in tar:
            if member.isdir():
                continue
            stream = tar.extractfile(member) if member.isreg() else None
            if stream is None:
                raise InvalidInput(f"the archive holds a link or device: {member.name[:80]!r}")
            with stream:
                yield member.name, stream
        # A damaged header looks like the end to tarfile. The real one is two blocks of zeros, and nothing else follows.
        tail = tar.fileobj.read(TAIL) if tar.fileobj else b""
        if len(tail) < tarfile.BLOCKSIZE or tail.strip(b"\0"):
            raise tarfile.ReadError("it ends too early, or is damaged")


def _write(path: Path, stream: IO[bytes], written: int, limit: int) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as out:
        while chunk := stream.read(CHUNK):
            written += len(chunk)
            if written > limit:
                raise InvalidInput(f"the archive unpacks to more than {limit} bytes")
            out.write(chunk)
    return written
