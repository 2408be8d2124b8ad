"""The order of samples: every batch is full, and every epoch has every sample once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sextant_parallel import GlobalOrder


@given(rows=st.integers(1, 60), wanted=st.integers(1, 80), epochs=st.integers(1, 4), seed=st.integers(0, 3))
def test_epochs_follow_each_other_in_full_batches(rows: int, wanted: int, epochs: int, seed: int) -> None:
    order = GlobalOrder(rows, wanted, seed)
    batches = [order.batch_at(step) for step in range(order.steps(epochs))]
    assert {len(batch) for batch in batches} == {min(rows, wanted)}
    stream = np.concatenate(batches)
    for epoch in range(epochs):
        assert sorted(stream[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(rows=st.integers(1, 60), wanted=st.integers(1, 80), epochs=st.integers(1, 4))
def test_each_epoch_ends_once_and_the_last_with_the_last_step(rows: int, wanted: int, epochs: int) -> None:
    order = GlobalOrder(rows, wanted, 0)
    ended = [order.ended(done) for done in range(order.steps(epochs) + 1)]
    assert [epoch for epoch in ended if epoch is not None] == list(range(1, epochs + 1))
    assert ended[-1] == epochs


def test_epochs_and_seeds_differ() -> None:
    first, second = GlobalOrder(50, 50, 0), GlobalOrder(50, 50, 1)
    assert first.batch_at(0).tolist() != first.batch_at(1).tolist()
    assert first.batch_at(0).tolist() != second.batch_at(0).tolist()


def test_nobody_can_change_the_order_of_others() -> None:
    with pytest.raises(ValueError, match="read-only"):
        GlobalOrder(50, 10, 0).batch_at(0)[0] = 3
