"""The rules of a job's life under random sequences, on the model of the store."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.simulation.rules import LifecycleRules

CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def run(examples: int, *, derandomize: bool) -> None:
    """Sequences of 50 steps."""
    limits = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        derandomize=derandomize,
        suppress_health_check=CHECKS,
        database=None,
    )
    run_state_machine_as_test(LifecycleRules, settings=limits)


def test_no_sequence_of_events_breaks_an_invariant() -> None:
    run(300, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_sequence_never_tried_before_breaks_an_invariant() -> None:
    run(3000, derandomize=False)
