"""Profiles kept by the hash of what they follow from, so that nothing is measured twice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sextant_planner.record import Record

R = TypeVar("R", bound=Record)


def key(*parts: object) -> str:
    """A hash of what a profile follows from: a model's configuration, a device's name, versions."""
    return hashlib.sha256("\0".join(map(repr, parts)).encode()).hexdigest()


def cached(directory: Path | None, name: str, kind: type[R], make: Callable[[], R]) -> R:
    """The record stored under `name`, or a new one, which is stored; a directory of None stores nothing."""
    if directory is None:
        return make()
    file = directory / f"{kind.__name__}-{name}.json"
    if file.is_file():
        return kind.from_json(file.read_bytes())
    record = make()
    directory.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".new")
    partial.write_text(record.to_json())
    partial.replace(file)
    return record
