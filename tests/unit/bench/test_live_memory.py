"""The ledger counts what is alive, and tells gradients from the rest."""

from __future__ import annotations

import torch
from tests.bench.live_memory import Change, Ledger, highest, peaks_of, status_bytes
from torch import nn

NUMBERS = 1000


def test_the_highest_sum_is_that_on_the_way() -> None:
    assert highest([Change(1, 5), Change(2, 7), Change(1, -5), Change(3, 4)]) == 12
    assert highest([]) == 0


def test_what_is_freed_counts_no_more_and_views_count_once() -> None:
    there = torch.ones(NUMBERS)
    with Ledger([there]) as ledger:
        first = there * 2
        view = first.view(2, -1)
        del first, view
        second = there * 3
        there.add_(1)
    assert ledger.peaks.total == second.nbytes


def test_gradients_of_parameters_stand_apart() -> None:
    layer = nn.Linear(NUMBERS, 1, bias=False)
    inputs = torch.ones(1, NUMBERS)
    peaks = peaks_of(lambda: layer(inputs).sum().backward(), layer, [inputs])
    assert peaks.total >= 4 * NUMBERS
    assert peaks.activations < 4 * NUMBERS


def test_a_status_is_in_kibibytes() -> None:
    assert status_bytes("Name:\tx\nVmHWM:\t  12 kB\nVmRSS:\t 8 kB\n", "VmHWM") == 12 * 1024
