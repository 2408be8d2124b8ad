"""Classification metrics and what is required of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from sextant_exporter.domain.metrics import score, unmet
from sextant_shared.contracts.specs import EvaluateSpec

CLASSES = 4


def drawn(seed: int, rows: int = 200, present: int = CLASSES) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits that are right more often than not, and labels of the first `present` classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, present, rows)
    logits = rng.normal(0, 2, (rows, CLASSES))
    logits[np.arange(rows), labels] += 1.5
    return logits, labels


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities by row."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return shares


# Sums of a few hundred float64 figures in another order than scikit-learn's: well within 1e-9.
CLOSE = 1e-9


@pytest.mark.parametrize("present", [2, CLASSES], ids=["classes that never occur", "all classes occur"])
@pytest.mark.parametrize("seed", range(3))
def test_all_figures_are_those_of_scikit_learn(seed: int, present: int) -> None:
    logits, labels = drawn(seed, present=present)
    called = logits.argmax(1)
    report = score(logits, labels, CLASSES)
    occurring = sorted(set(labels.tolist()))
    assert report.accuracy == pytest.approx(reference.accuracy_score(labels, called), rel=CLOSE)
    f1 = reference.f1_score(labels, called, labels=occurring, average="macro")
    assert report.macro_f1 == pytest.approx(f1, rel=CLOSE)
    assert report.confusion == reference.confusion_matrix(labels, called, labels=range(CLASSES)).tolist()
    loss = reference.log_loss(labels, softmax(logits), labels=range(CLASSES))
    assert report.log_loss == pytest.approx(loss, rel=CLOSE)
    recall = reference.recall_score(labels, called, labels=range(CLASSES), average=None, zero_division=0.0)
    assert report.recall == pytest.approx(recall.tolist(), rel=CLOSE)


@pytest.mark.parametrize("digits", [0, 6], ids=["many ties", "no ties"])
def test_the_area_under_the_curve_is_that_of_scikit_learn(digits: int) -> None:
    logits, labels = drawn(5, present=2)
    logits = logits[:, :2].round(digits)
    margin = logits[:, 1] - logits[:, 0]
    assert score(logits, labels, 2).figures()["auc"] == pytest.approx(
        reference.roc_auc_score(labels, margin), rel=CLOSE
    )
    assert "auc" not in score(logits, np.zeros_like(labels), 2).figures()
    assert "auc" not in score(*drawn(5), CLASSES).figures()


def test_the_calibration_error_is_how_far_confidence_is_from_how_often_it_is_right() -> None:
    # 8 rows that are sure by 0.9, of which 6 are right, and 2 that are sure by 0.6, of which none is.
    shares = np.array([[0.9, 0.1]] * 8 + [[0.4, 0.6]] * 2)
    labels = np.array([0] * 6 + [1] * 2 + [0] * 2)
    found = score(np.log(shares), labels, 2).calibration_error
    assert found == pytest.approx(0.8 * abs(0.9 - 6 / 8) + 0.2 * 0.6, rel=CLOSE)


def test_a_row_of_the_confusion_matrix_is_the_true_class() -> None:
    logits = np.array([[0.0, 9.0], [0.0, 9.0], [9.0, 0.0]])
    assert score(logits, np.array([0, 0, 0]), 2).confusion == [[1, 2], [0, 0]]


def test_huge_logits_overflow_nothing() -> None:
    report = score(np.array([[1e4, 0.0], [0.0, 1e4]]), np.array([0, 0]), 2)
    assert report.log_loss == pytest.approx(5e3)


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        (">= 0.97", 0.97, True),
        (">= 0.97", 0.9699, False),
        (">0.97", 0.97, False),
        ("<= 0.5", 0.5, True),
        ("< 0.5", 0.5, False),
        ("< -1", -1.5, True),
        (">=  1", 1.0, True),
    ],
)
def test_a_requirement_holds_or_not_at_its_very_bound(condition: str, value: float, holds: bool) -> None:
    assert (unmet({"accuracy": value}, {"accuracy": condition}) == []) is holds


def test_an_unmet_requirement_says_what_was_found_and_what_is_required() -> None:
    assert unmet({"accuracy": 0.9512}, {"accuracy": ">= 0.97"}) == ["accuracy is 0.9512, required >= 0.97"]


def test_a_requirement_on_an_unknown_metric_does_not_hold_and_the_known_ones_are_named() -> None:
    (failure,) = unmet({"accuracy": 1.0, "log_loss": 0.0}, {"auc": ">= 0.5"})
    assert "there is no such metric, only accuracy, log_loss" in failure


@pytest.mark.parametrize("condition", [">= 0.9", "> 0", "<= 0.9", "< 5"])
def test_a_metric_that_is_no_number_meets_nothing(condition: str) -> None:
    assert len(unmet({"accuracy": float("nan")}, {"accuracy": condition})) == 1


CONDITION = st.from_regex(r"(>=|<=|>|<) ?-?[0-9]{1,5}(\.[0-9]{1,4})?", fullmatch=True)


@given(condition=CONDITION)
def test_every_requirement_that_a_specification_may_hold_is_decided(condition: str) -> None:
    body = {"kind": "evaluate", "endpoint": "e", "data": {"dataset": "d"}, "require": {"m": condition}}
    require = EvaluateSpec.model_validate(body).require
    bound = float(condition.lstrip("<>= "))
    holds = [unmet({"m": value}, require) == [] for value in (bound - 1.0, bound + 1.0)]
    assert holds == [condition.startswith("<"), condition.startswith(">")]
