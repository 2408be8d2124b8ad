"""The whole platform under faults: every accepted job ends once, and its history is whole."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.run import explain, run_seed
from tests.mutants.planting import PATCHES, look_for

JOBS, FAULTS = 110, 12
SEEDS = (0, 1, 2)
MUTANT = "07-answer-before-commit"
"""What was answered and not yet committed is lost with the database that goes away meanwhile."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_and_nothing_done_twice_under_faults(seed: int) -> None:
    outcome = asyncio.run(run_seed(seed, JOBS, FAULTS))
    assert not outcome.failed, explain(outcome, JOBS, FAULTS)
    assert outcome.jobs == JOBS
    assert outcome.checks > 0
    assert outcome.effects["skewed-clocks"] > 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_planted_bug_is_found_under_faults() -> None:
    patch = next(patch for patch in PATCHES if patch.stem == MUTANT)
    found = look_for(patch, ["chaos"])
    assert found.tier == "chaos"
    assert "I1" in found.saw
