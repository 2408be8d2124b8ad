"""Quantiles of numbers that come in parts, held to those of all at once."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sextant_data_prep.domain.quantiles import Quantiles

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
NUMBERS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50)


@given(numbers=NUMBERS, cut=st.integers(0, 50))
def test_they_are_those_of_all_numbers_at_once(numbers: list[float], cut: int) -> None:
    values = np.array(numbers, np.float32)
    found = Quantiles(SHARES)
    for take in (found.count, found.refine):
        for part in (values[:cut], values[cut:]):
            take(part)
    # The lower of two, by rank: what `method="lower"` is, without its rounding of ranks.
    expected = np.sort(values)[[int(share * (len(values) - 1)) for share in SHARES]]
    assert found.values() == expected.tolist()


def test_of_no_numbers_there_are_none() -> None:
    found = Quantiles((0.5,))
    found.count(np.empty(0, np.float32))
    found.refine(np.empty(0, np.float32))
    assert all(math.isnan(value) for value in found.values())
