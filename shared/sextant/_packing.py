"""A file, or a directory as an uncompressed tar, as bytes that can be read at any offset; the tar is never written."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path

from sextant.errors import BadInput

READ = 2**20
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Segment:
    """A run of bytes of the whole: from a file, or given here (headers, padding)."""

    start: int
    size: int
    file: Path | None = None
    content: bytes = b""

    def read(self, offset: int, size: int) -> bytes:
        """Bytes at an offset within the segment. Raises BadInput where the file has shrunk."""
        if self.file is None:
            return self.content[offset : offset + size]
        size = min(size, self.size - offset)
        with self.file.open("rb") as file:
            file.seek(offset)
            got = file.read(size)
        if len(got) < size:
            raise BadInput(f"{self.file} has become shorter while it was read")
        return got


class Source:
    """What is pushed: its name on the server and its bytes."""

    def __init__(self, name: str, segments: list[Segment]) -> None:
        self.name = name
        self.segments = segments
        self._starts = [segment.start for segment in segments]
        self.size = segments[-1].start + segments[-1].size if segments else 0

    def read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from `offset`."""
        parts: list[bytes] = []
        index = max(0, bisect_right(self._starts, offset) - 1)
        while size > 0 and index < len(self.segments):
            segment = self.segments[index]
            part = segment.read(offset - segment.start, size)
            parts.append(part)
            offset, size, index = offset + len(part), size - len(part), index + 1
        return b"".join(parts)

    def sha256(self) -> str:
        """The hash of all bytes, in hex."""
        digest = hashlib.sha256()
        for segment in self.segments:
            for offset in range(0, segment.size, READ):
                digest.update(segment.read(offset, min(READ, segment.size - offset)))
        return digest.hexdigest()


def open_code(path: str | Path) -> Source:
    """As `open_source`, and of a directory without what is hidden or made by Python."""
    path = Path(path).expanduser()
    return _directory(path, of_code=True) if path.is_dir() else open_source(path)


def open_source(path: str | Path) -> Source:
    """The source for a path. Raises BadInput for what cannot be pushed."""
    path = Path(path).expanduser()
    try:
        if path.is_dir():
            return _directory(path)
        size = path.stat().st_size
        if not path.is_file():
            raise BadInput(f"{path} is neither a file nor a directory")
        with path.open("rb"):
            pass
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror or error}") from None
    if size == 0:
        raise BadInput(f"{path} is empty")
    return Source(path.resolve().name, [Segment(0, size, path)])


def _directory(root: Path, *, of_code: bool = False) -> Source:
    files = _files(root, of_code=of_code)
    if not files:
        raise BadInput(f"{root} holds no files")
    segments: list[Segment] = []
    position = 0

    def add(size: int, file: Path | None = None, content: bytes = b"") -> None:
        nonlocal position
        if size:
            segments.append(Segment(position, size, file, content))
            position += size

    for file in files:
        size = file.stat().st_size
        header = _header(file.relative_to(root).as_posix(), size)
        add(len(header), content=header)
        add(size, file=file)
        padding = -size % BLOCK
        add(padding, content=bytes(padding))
    add(2 * BLOCK, content=bytes(2 * BLOCK))
    return Source(f"{root.resolve().name or 'data'}.tar", segments)


def _header(name: str, size: int) -> bytes:
    # Only names and bytes count: owner, time and mode are fixed, so that the same files are the same upload.
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    try:
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")
    except UnicodeEncodeError:
        raise BadInput(f"the file name {name!r} is not valid Unicode") from None


def _files(root: Path, *, of_code: bool) -> list[Path]:
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        raise BadInput(f"{error.filename} cannot be read: {error.strerror}")

    for folder, folders, names in os.walk(root, onerror=refuse):
        if of_code:
            folders[:] = [name for name in folders if not _is_no_code(name)]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise BadInput(f"{Path(folder) / name} is a link to a directory; push that directory itself")
        for name in names:
            if of_code and _is_no_code(name):
                continue
            path = Path(folder) / name
            if not stat.S_ISREG(path.stat().st_mode):
                raise BadInput(f"{path} is not a regular file")
            found.append(path)
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())


def _is_no_code(name: str) -> bool:
    return name.startswith(".") or name == "__pycache__"
