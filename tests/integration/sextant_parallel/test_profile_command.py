"""`python -m sextant_trainer profile`: a profile on standard output, or what is wrong with the request."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sextant_planner.model import ModelProfile

COMMAND = [sys.executable, "-m", "sextant_trainer", "profile"]
SETTINGS = ["--set", "hidden=64", "--set", "layers=2", "--set", "heads=4"]
TEXT = ["--shape", "64", "--classes", "100", "--set", "sequence=64", "--set", "vocabulary=100"]


def profile(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command's end."""
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=300)


def test_an_architecture_becomes_a_profile() -> None:
    done = profile("decoder", "--name", "tiny", *TEXT, *SETTINGS)
    assert done.returncode == 0, done.stderr
    model = ModelProfile.from_json(done.stdout.encode())
    assert (model.name, model.sequence, len(model.blocks)) == ("tiny", 64, 4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense", "--shape", "64"], "nonsense"),
        (["decoder"], "--shape"),
        (["decoder", "--shape", "wide"], "wide"),
        (["decoder", "--shape", "8,0"], "8,0"),
        (["decoder", *TEXT, "--set", "depth=3"], "depth"),
        (["decoder", "--shape", "9999", "--classes", "256"], "256 tokens"),
    ],
)
def test_a_bad_request_is_told(arguments: list[str], says: str) -> None:
    done = profile(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
