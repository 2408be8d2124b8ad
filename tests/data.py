"""Real data sets that are no part of the repository: where a machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_data() -> Path:
    """The folder that SEXTANT_DATA names, `../shared/data` otherwise. Skips the test where it is missing."""
    folder = Path(os.environ.get("SEXTANT_DATA", ROOT.parent / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"there is no {folder}: SEXTANT_DATA names a folder with the data sets")
    return folder
