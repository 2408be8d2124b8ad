"""Where pulled files land: never outside the directory, whole or not at all, and only with the promised hash."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from sextant.errors import BadInput, TransferFailed

READ = 2**20


@dataclass(frozen=True)
class Wanted:
    """A file of a version."""

    path: str
    size: int
    sha256: str

    @classmethod
    def of(cls, file: dict[str, Any]) -> Wanted:
        """From a version's list of files. Raises TransferFailed where it is not understood."""
        try:
            return cls(str(file["path"]), int(file["size"]), str(file["sha256"]))
        except (KeyError, TypeError, ValueError):
            raise TransferFailed(
                f"the server describes a file in a way that is not understood: {file!r:.200}"
            ) from None


class Landing:
    """One file on its way: bytes gather in NAME.part, which becomes NAME once its hash is right."""

    def __init__(self, directory: Path, wanted: Wanted) -> None:
        self.wanted = wanted
        self.target = _inside(directory, wanted.path)
        self.part = self.target.with_name(self.target.name + ".part")
        self._file: BinaryIO | None = None

    def is_there(self) -> bool:
        """Whether the target is already the right file."""
        return self.target.is_file() and _matches(self.target, self.wanted)

    def received(self) -> int:
        """How many bytes of an earlier try are there."""
        self.close()
        if self.part.is_symlink() or (self.part.exists() and not self.part.is_file()):
            raise BadInput(f"{self.part} is in the way; remove it")
        size = self.part.stat().st_size if self.part.exists() else 0
        if size > self.wanted.size:
            self.part.unlink()
            return 0
        return size

    def add(self, chunk: bytes) -> int:
        """Append bytes; how many there are now. Raises BadInput where that fails, TransferFailed for too many."""
        try:
            if self._file is None:
                self.part.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
                self._file = os.fdopen(os.open(self.part, flags, 0o644), "ab")
            total = self._file.tell() + len(chunk)
            if total > self.wanted.size:
                raise TransferFailed(
                    f"{self.wanted.path}: the server sent more than the promised {self.wanted.size} bytes"
                )
            self._file.write(chunk)
        except OSError as error:
            raise BadInput(f"{self.part} cannot be written: {error.strerror or error}") from None
        return total

    def discard(self) -> None:
        """Throw away what has come."""
        self.close()
        self.part.unlink(missing_ok=True)

    def finish(self) -> bool:
        """Put the file in place. False, with the bytes thrown away, where the hash is wrong."""
        self.add(b"")
        self.close()
        if not _matches(self.part, self.wanted):
            self.discard()
            return False
        self.part.replace(self.target)
        return True

    def close(self) -> None:
        """Let go of the file; what has come stays."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _inside(directory: Path, path: str) -> Path:
    pure = PurePosixPath(path)
    if not path or "\0" in path or "\\" in path or ":" in path or pure.is_absolute() or ".." in pure.parts:
        raise TransferFailed(f"the server names a file outside the directory: {path[:80]!r}; nothing was written")
    root = directory.resolve()
    target = root / pure
    if not target.parent.resolve().is_relative_to(root) or target.resolve() == root:
        raise TransferFailed(f"{path[:80]!r} leads out of {directory} through a link; nothing was written")
    return target


def _matches(path: Path, wanted: Wanted) -> bool:
    if path.stat().st_size != wanted.size:
        return False
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ):
            digest.update(chunk)
    return digest.hexdigest() == wanted.sha256
