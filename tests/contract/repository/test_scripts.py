"""Every script says what it does, and refuses what it does not know."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = [
    ".ci/run",
    "compose/secrets",
    *sorted(f"scripts/{path.name}" for path in (ROOT / "scripts").iterdir() if path.is_file()),
]


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """From another directory, as people do."""
    return subprocess.run([ROOT / script, *arguments], cwd="/", capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_says_how_a_script_is_used_and_what_it_does(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    helped = run(script, "--help")
    assert helped.returncode == 0, helped.stderr
    lines = helped.stdout.splitlines()
    assert lines[0].startswith(f"Usage: {script}")
    assert len(lines) > 1


# What `scripts/test` does not know is pytest's.
@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != "scripts/test"])
def test_an_unknown_option_is_refused_by_name(script: str) -> None:
    refused = run(script, "--no-such-option")
    assert refused.returncode == 2
    assert "--no-such-option" in refused.stderr.splitlines()[-1]
