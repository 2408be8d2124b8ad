"""Which boxes are right, and what precision, recall and F1 they make."""

from __future__ import annotations

import numpy as np
import pytest

from sextant_shared.detections import average_precision, best_f1, match, overlaps

REAL = np.array([[0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
LABELS = np.array([0, 1])


def test_overlap_is_the_common_part_of_the_whole() -> None:
    found = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4]], np.float32)
    np.testing.assert_allclose(overlaps(found, REAL[:1])[:, 0], [1.0, 50 / 150, 0.0, 4 / 100])


def test_a_box_is_found_once_and_by_the_surest() -> None:
    found = np.array([[1, 0, 11, 10], [0, 0, 10, 10], [20, 0, 30, 10]], np.float32)
    assert match(found, np.array([0, 0, 1]), REAL, LABELS, 0.5).tolist() == [0, -1, 1]


def test_a_box_of_another_class_or_with_too_little_overlap_is_wrong() -> None:
    found = np.array([[0, 0, 10, 10], [26, 0, 36, 10]], np.float32)
    # The second one overlaps by 4 of 16.
    assert match(found, np.array([1, 1]), REAL, LABELS, 0.3).tolist() == [-1, -1]
    assert match(found, np.array([1, 1]), REAL, LABELS, 0.25).tolist() == [-1, 1]


def test_nothing_found_or_nothing_there_is_no_match() -> None:
    none = np.zeros((0, 4), np.float32)
    assert match(none, np.zeros(0, int), REAL, LABELS, 0.5).tolist() == []
    assert match(REAL, LABELS, none, np.zeros(0, int), 0.5).tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("right", "real", "expected"),
    [
        ([1, 1], 2, 1.0),
        ([1, 0, 1], 2, 0.5 + 0.5 * 2 / 3),
        ([0, 1], 1, 0.5),
        ([0, 0], 3, 0.0),
        ([1], 4, 0.25),
        # Precision is 1/2, then 2/3: at the lower recall the higher one counts.
        ([0, 1, 1], 2, 2 / 3),
    ],
)
def test_average_precision_is_the_area_below_the_falling_curve(right: list[int], real: int, expected: float) -> None:
    hits = np.array(right, float)
    assert average_precision(hits, 1 - hits, real) == pytest.approx(expected)


def test_counts_by_bin_give_the_same_as_single_boxes_where_a_bin_holds_one() -> None:
    hits = np.array([1.0, 0, 0, 1, 1, 0, 1])
    spread = np.zeros(20)
    spread[[0, 3, 4, 7, 11, 12, 19]] = hits
    misses = np.zeros(20)
    misses[[0, 3, 4, 7, 11, 12, 19]] = 1 - hits
    assert average_precision(spread, misses, 5) == pytest.approx(average_precision(hits, 1 - hits, 5))


def test_the_best_threshold_is_where_f1_is_highest() -> None:
    hits = np.array([1.0, 1, 0, 1, 0, 0, 0])
    best = best_f1(hits, 1 - hits, 4)
    assert best.place == 3
    assert (best.precision, best.recall) == (0.75, 0.75)
    assert best.f1 == pytest.approx(0.75)
