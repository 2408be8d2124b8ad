"""From images a second to hours, and to the number of devices that reach them."""

from __future__ import annotations

import pytest
from tests.bench.resnet152 import Steps, _joined, hours, least


def test_hours_follow_from_the_rate() -> None:
    assert hours(7200.0, 2.0) == pytest.approx(1.0)


def test_the_fewest_devices_that_are_done_in_time() -> None:
    rates = {1: 1.0, 4: 3.9, 5: 4.8}
    assert least(rates, 4 * 3600.0, 1.0) == 5
    assert least(rates, 4 * 3600.0, 4.0) == 1
    assert least(rates, 6 * 3600.0, 1.0) is None


def test_a_step_takes_as_long_as_the_slowest_rank() -> None:
    assert _joined([Steps((1.0, 4.0), 10.0), Steps((2.0, 3.0), 11.0)]) == Steps((2.0, 4.0), 21.0)
