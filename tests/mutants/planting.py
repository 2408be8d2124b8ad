"""Plant a bug in a copy of the tree, and let the tiers of tests look for it, the cheapest first.

Nothing of this ships: a patch is applied to a copy in a temporary folder, and the copy is thrown away.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PATCHES = sorted((ROOT / "tests" / "mutants").glob("*.patch"))
PACKAGES = ("data-prep", "scheduler", "trainer", "tuner", "exporter", "inference")
TIERS = {
    "simulation": ["tests/simulation/test_simulation.py"],
    "stateful, model": ["tests/simulation/test_stateful.py"],
    "stateful, PostgreSQL": [
        "tests/integration/sextant_shared/test_races.py",
        "tests/integration/sextant_shared/test_stateful.py",
    ],
    "integration": ["tests/integration/sextant_scheduler/test_submissions.py"],
    "crash points": ["tests/integration/sextant_scheduler/test_crash_points.py"],
    "chaos": ["tests/chaos/test_chaos.py"],
}
FAILED = 1
"""Pytest's exit status where a test failed; any other but 0 means that none could be run."""
TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True)
class Found:
    """Which tier found a bug, if one did, how long it looked, all tiers together, and what it saw."""

    name: str
    about: str
    tier: str | None
    tier_s: float
    total_s: float
    saw: str


def about(patch: Path) -> str:
    """What bug a patch plants: the text before the first file."""
    return " ".join(patch.read_text().partition("diff --git")[0].split())


def applies(patch: Path, tree: Path = ROOT) -> str | None:
    """None where the patch can be applied to the tree, else why not."""
    command = ["git", "apply", "--check", str(patch)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else None


@contextmanager
def copy_of_the_tree() -> Iterator[Path]:
    """The files that git tracks, as they are now, in a folder that is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="sextant-mutant-"))
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        for line in listed.stdout.splitlines():
            if (ROOT / line).is_file():
                (directory / line).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / line, directory / line)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def look_for(patch: Path | None, tiers: Iterable[str] = tuple(TIERS)) -> Found:
    """Plant the bug, or none, and run the tiers until one fails."""
    began = time.monotonic()
    name, text = (patch.stem, about(patch)) if patch else ("nothing planted", "")
    with copy_of_the_tree() as tree:
        if patch:
            subprocess.run(["git", "apply", "--whitespace=nowarn", str(patch)], cwd=tree, check=True)
        for tier in tiers:
            tier_began = time.monotonic()
            failure = _run(tree, TIERS[tier])
            if failure is not None:
                now = time.monotonic()
                return Found(name, text, tier, now - tier_began, now - began, failure)
    return Found(name, text, None, 0.0, time.monotonic() - began, "")


def _run(tree: Path, tests: list[str]) -> str | None:
    """What the first failing test says; None where all pass."""
    folders = [*(f"services/{name}" for name in PACKAGES), "shared", "kernels", "migrations", ""]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(tree / folder) for folder in folders)}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "--hypothesis-profile", "hasty", *tests]
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=TIMEOUT_S
    )
    if done.returncode == 0:
        return None
    if done.returncode != FAILED:
        raise RuntimeError(f"the tests could not be run:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    said = [line[1:].strip() for line in done.stdout.splitlines() if line.startswith("E ") and line[1:].strip()]
    return next((line for line in said if "I1" in line or "Error" in line or "I" in line[:2]), said[0] if said else "")
