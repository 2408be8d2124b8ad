"""How what takes a part of a tone away lies there: across it, at its edge, inside, or in a way that is hard to say."""

from __future__ import annotations

import numpy as np
import pytest

from sextant_trainer.training.tasks.tones import Lies, Mask, largest, lies, pieces, sides


def mask(rows: slice, columns: slice) -> Mask:
    """A block in a window."""
    made = np.zeros((40, 60), bool)
    made[rows, columns] = True
    return made


WIRE = mask(slice(10, 30), slice(0, 60))
END = mask(slice(10, 30), slice(0, 40))


@pytest.mark.parametrize(
    ("ground", "taken", "how"),
    [
        (WIRE, mask(slice(10, 30), slice(20, 26)), "across"),
        (WIRE, mask(slice(10, 22), slice(20, 26)), "edge"),
        (WIRE, mask(slice(15, 22), slice(20, 26)), "inside"),
        # The corner of an end, and the whole of it: it might be a bite, or an end that is missing.
        (END, mask(slice(10, 20), slice(30, 40)), "edge"),
        (END, mask(slice(10, 30), slice(26, 40)), None),
        # A wire that ends where another one begins.
        (mask(slice(10, 30), slice(0, 20)), mask(slice(18, 24), slice(10, 20)), "edge"),
    ],
)
def test_how_it_lies(ground: Mask, taken: Mask, how: Lies | None) -> None:
    assert lies(ground, taken) == how


def test_specks_are_no_pieces() -> None:
    specked = WIRE.copy()
    specked[2:4, 2:5] = True
    assert pieces(WIRE) == pieces(specked) == 1
    assert np.array_equal(largest(specked), WIRE)
    assert sides(WIRE).tolist() == [0, 10, 60, 30]
    assert pieces(largest(np.zeros((4, 4), bool))) == 0
