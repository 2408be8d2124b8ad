"""The scheduler's own code on a model of its servers, under every kind of fault that a seed can think of."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.simulation.run import explain, run_seeds

ROOT = Path(__file__).resolve().parents[2]
BUDGET_S = 45.0


@pytest.mark.timeout(180)
def test_no_seed_breaks_an_invariant() -> None:
    """As many of 4,000 seeds as fit into the time."""
    outcome = run_seeds(0, 4_000, until=time.monotonic() + BUDGET_S, stop=True)
    assert not outcome.failures, explain(next(iter(outcome.failures)))
    assert outcome.seeds > 500, "too few to mean anything"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_seed_of_many_breaks_an_invariant() -> None:
    outcome = run_seeds(0, 20_000, stop=True)
    assert not outcome.failures, explain(next(iter(outcome.failures)))


def test_a_seed_gives_the_same_trace_whenever_it_is_run() -> None:
    # Another process with other hashes of strings: nothing may hang on the order of a set.
    program = "from tests.simulation.run import run_seeds; print(run_seeds(0, 200).digest)"
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == run_seeds(0, 200).digest
