"""The order of samples: every batch is full, and every epoch has every sample once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sextant_parallel import GlobalOrder
from sextant_parallel.order import HELD_ROWS


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


@pytest.mark.parametrize("rows", [HELD_ROWS + 1, 5_000_011, 1 << 23])
def test_an_order_that_is_not_held_has_every_sample_once_too(rows: int) -> None:
    order = GlobalOrder(rows, 1 << 19, 7)
    seen = np.zeros(rows, np.int64)
    for step in range(order.steps(1)):
        batch = order.batch_at(step)
        np.add.at(seen, batch[: rows - step * order.batch], 1)
    assert (seen == 1).all()


def test_an_order_that_is_not_held_is_reckoned_for_a_batch_alone_and_is_mixed() -> None:
    rows = 10**12
    order = GlobalOrder(rows, 4096, 7)
    batch = order.batch_at(123_456_789)
    assert (batch == GlobalOrder(rows, 4096, 7).batch_at(123_456_789)).all()
    assert batch.min() >= 0
    assert batch.max() < rows
    # The mean of 4,096 even draws lies within 4 deviations (of 0.29 / 64 each) of the middle; so do the steps' signs.
    assert abs(batch.mean() / rows - 0.5) < 4 * 0.29 / 64
    assert abs((np.diff(batch) > 0).mean() - 0.5) < 4 * 0.5 / 64
    assert len(set(batch.tolist()) & set(GlobalOrder(rows, 4096, 8).batch_at(123_456_789).tolist())) == 0
    epochs = rows // 4096 + 1
    assert (order.batch_at(epochs)[1:] != order.batch_at(0)[1:]).mean() > 0.99
