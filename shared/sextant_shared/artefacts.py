"""The artefact store: files of jobs by URL (fsspec), written once, known by hash, visible through a manifest."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import fsspec
import structlog

from sextant_shared.errors import InvalidInput, NotFound, Unavailable

log = structlog.get_logger(__name__)
CHUNK = 1 << 20
MAX_PATH = 512
MAX_PART_BYTES = 255
"""The longest name of a file that file systems take."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a manifest: its path under the attempt's prefix, size in bytes and SHA-256 in hex."""

    path: str
    size: int
    sha256: str

    def plain(self) -> dict[str, Any]:
        """As it stands in the manifest."""
        return asdict(self)


def digest_of(files: Sequence[File]) -> str:
    """One hash over a set of files, whatever their order."""
    lines = sorted(f"{f.path}\0{f.size}\0{f.sha256}\n" for f in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def hash_file(path: Path) -> File:
    """The file's size and hash; its path is left to the caller."""
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    return File(path.name, path.stat().st_size, digest.hexdigest())


def safe_path(path: str) -> PurePosixPath:
    """A relative path that stays below its root. Raises InvalidInput for anything else."""
    pure = PurePosixPath(path)
    leaves = pure.is_absolute() or ".." in pure.parts or "\0" in path or "\\" in path
    too_long = len(path) > MAX_PATH or any(len(part.encode()) > MAX_PART_BYTES for part in pure.parts)
    if not pure.parts or leaves or too_long:
        raise InvalidInput(
            f"a path must be relative, without '..', backslash or NUL, of at most {MAX_PATH} characters, "
            f"each part of at most {MAX_PART_BYTES} bytes",
            field="path",
        )
    return pure


class Artefacts:
    """Files below one root URL. A local root is used in place; any other is copied to and from a cache directory."""

    def __init__(self, url: str, cache: Path) -> None:
        parts = urlsplit(url)
        self._local = Path(parts.path) if parts.scheme in ("", "file") else None
        self._url = url.rstrip("/")
        self._cache = cache
        self._fs: Any = None if self._local else fsspec.core.url_to_fs(url)[0]

    def publish(self, source: Path, prefix: str) -> list[File]:
        """Move all files below `source` under `prefix`, durably, and say what they are. Run once an attempt."""
        files = [self._publish_one(source, path, prefix) for path in sorted(source.rglob("*")) if path.is_file()]
        if self._local:
            _sync_directory(self._local / prefix)
        return files

    def _publish_one(self, source: Path, path: Path, prefix: str) -> File:
        relative = path.relative_to(source).as_posix()
        described = hash_file(path)
        if self._local:
            target = self._local / prefix / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync_file(path)
            _move(path, target)
        else:
            with _elsewhere(relative, prefix):
                self._fs.put_file(str(path), f"{self._url}/{prefix}/{relative}")
        return File(relative, described.size, described.sha256)

    def put(self, prefix: str, file: File, blocks: Iterable[bytes]) -> None:
        """Store one file, durably, from its bytes. Raises Unavailable where they do not have its hash."""
        where = f"{prefix}/{safe_path(file.path)}"
        target = self._local / where if self._local else self._cache / "put" / where
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        with partial.open("wb") as stream:
            stream.writelines(blocks)
            stream.flush()
            os.fsync(stream.fileno())
        if hash_file(partial).sha256 != file.sha256:
            partial.unlink()
            raise Unavailable(f"the artefact {file.path} of {prefix} does not match its hash")
        if self._local:
            partial.replace(target)
            _sync_directory(target.parent)
        else:
            with _elsewhere(file.path, prefix):
                self._fs.put_file(str(partial), f"{self._url}/{where}")
            partial.unlink()

    def fetch(self, prefix: str, files: Sequence[File]) -> Path:
        """A local directory that holds `files`; bytes that came from elsewhere are checked against their hash."""
        if self._local:
            directory = self._local / prefix
            for file in files:
                if not (directory / file.path).is_file():
                    raise NotFound(f"the artefact {file.path} of {prefix} is missing from the store")
            return directory
        directory = self._cache / digest_of(files)
        for file in files:
            self._download(prefix, file, directory / safe_path(file.path))
        return directory

    def _download(self, prefix: str, file: File, target: Path) -> None:
        if target.is_file() and target.stat().st_size == file.size:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f"{target.name}.{os.getpid()}.part")
        with _elsewhere(file.path, prefix):
            self._fs.get_file(f"{self._url}/{prefix}/{file.path}", str(partial))
        if hash_file(partial).sha256 != file.sha256:
            partial.unlink()
            raise Unavailable(f"the artefact {file.path} of {prefix} does not match its hash")
        partial.replace(target)

    def open(self, prefix: str, path: str, offset: int = 0) -> Iterator[bytes]:
        """The bytes of one file from `offset` on, in chunks. Raises NotFound."""
        where = safe_path(path)
        try:
            stream = (
                (self._local / prefix / where).open("rb")
                if self._local
                else self._fs.open(f"{self._url}/{prefix}/{where}")
            )
        except FileNotFoundError:
            raise NotFound(f"the artefact {path} is missing from the store") from None
        with stream:
            stream.seek(offset)
            while chunk := stream.read(CHUNK):
                yield chunk

    def discard(self, prefix: str) -> None:
        """Remove everything below `prefix`."""
        if self._local:
            shutil.rmtree(self._local / prefix, ignore_errors=True)
        elif self._fs.exists(f"{self._url}/{prefix}"):
            with _elsewhere("", prefix):
                self._fs.rm(f"{self._url}/{prefix}", recursive=True)


@contextmanager
def _elsewhere(path: str, prefix: str) -> Iterator[None]:
    """Turn whatever a store's client raises into an error of ours; its own name hosts and buckets."""
    try:
        yield
    except FileNotFoundError:
        raise NotFound(f"the artefact {path} of {prefix} is missing from the store") from None
    except Exception as error:  # noqa: BLE001 - each store's client has errors of its own
        log.warning("artefacts.failed", path=path, prefix=prefix, error=f"{type(error).__name__}: {error}"[:500])
        raise Unavailable("the artefact store cannot be reached, or refuses") from None


def _move(source: Path, target: Path) -> None:
    try:
        source.replace(target)
    except OSError:
        # Another file system: copy, then make it durable under its final name.
        partial = target.with_name(target.name + ".part")
        shutil.copyfile(source, partial)
        _sync_file(partial)
        partial.replace(target)


def _sync_file(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _sync_directory(path: Path) -> None:
    if not path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
