"""Real data sets that are no part of the repository: where a machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("SEXTANT_DATA", Path(__file__).resolve().parents[2] / "shared/data"))
"""What SEXTANT_DATA names, `../shared/data` otherwise."""


def shared_data() -> Path:
    """The folder. Skips the test where it is missing."""
    if not FOLDER.is_dir():
        pytest.skip(f"there is no {FOLDER}: SEXTANT_DATA names a folder with the data sets")
    return FOLDER


def needed(name: str) -> Path:
    """A file or folder of it that a benchmark cannot do without."""
    path = FOLDER / name
    if not path.exists():
        raise SystemExit(f"there is no {path}: SEXTANT_DATA names the folder with the data sets")
    return path
