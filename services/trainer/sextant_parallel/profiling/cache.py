"""Profiles kept by the hash of what they follow from, so that nothing is measured twice."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TypeVar

from sextant_planner.record import Record

R = TypeVar("R", bound=Record)


def key(*parts: object) -> str:
    """A hash of what a profile follows from: a model's configuration, a device's name, versions."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()


def read(directory: Path | None, name: str, kind: type[R]) -> R | None:
    """The record stored under `name`, if there is one."""
    file = _file(directory, name, kind)
    return kind.from_json(file.read_bytes()) if file is not None and file.is_file() else None


def write(directory: Path | None, name: str, record: Record) -> None:
    """Store it; a directory of None stores nothing."""
    file = _file(directory, name, type(record))
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(f".{os.getpid()}.new")
    partial.write_text(record.to_json())
    partial.replace(file)


def _file(directory: Path | None, name: str, kind: type[Record]) -> Path | None:
    return directory and directory / f"{kind.__name__}-{name}.json"
