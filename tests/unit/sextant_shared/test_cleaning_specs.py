"""The `clean` steps of a prepare spec: what is accepted, and what the refusal of the rest says."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from sextant_shared.contracts.specs import SPEC, PrepareSpec


def spec(task: str, *clean: dict[str, Any], **more: Any) -> PrepareSpec:
    """A prepare spec with these steps."""
    found: PrepareSpec = SPEC.validate_python(
        {"kind": "prepare", "source": "upload://u", "task": task, "target": "y", "clean": list(clean), **more}
    )
    return found


def test_steps_keep_their_order_and_settings() -> None:
    found = spec("text-classification", {"do": "mask", "kinds": ["ip"]}, {"do": "unicode", "form": "NFKC"})
    assert [step.do for step in found.clean] == ["mask", "unicode"]
    assert SPEC.validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("task", "step", "message"),
    [
        ("tabular", {"do": "unicode"}, "'unicode' is no step for the task tabular; accepted: types, missing"),
        ("text-classification", {"do": "missing"}, "'missing' is no step for the task text-classification"),
        ("image-classification", {"do": "mask"}, "accepted: resize, exposure, deduplicate"),
        ("tabular", {"do": "deduplicate", "near": 0.8}, "`near` is for texts and images"),
        ("tabular", {"do": "shuffle"}, "'unicode', 'length', 'script', 'mask', 'deduplicate'"),
        ("tabular", {"do": "missing", "policy": "constant"}, "`constant` needs a value"),
        ("tabular", {"do": "missing", "policy": "mean", "value": 1.0}, "no other takes one"),
        ("tabular", {"do": "bounds", "column": "x"}, "give min, max or both"),
        ("tabular", {"do": "bounds", "column": "x", "min": 2, "max": 1}, "max must not be under min"),
        ("tabular", {"do": "missing", "policy": "guess"}, "'drop', 'mean', 'median'"),
        ("text-classification", {"do": "length", "min_words": 5, "max_words": 2}, "max_words must not be under"),
        ("image-classification", {"do": "exposure", "min_brightness": 0.5, "max_brightness": 0.4}, "must not be under"),
        ("text-classification", {"do": "deduplicate", "near": 1.0}, "less than 1"),
        ("text-classification", {"do": "mask", "kinds": ["name"]}, "'email', 'phone', 'card', 'ip' or 'iban'"),
        ("text-classification", {"do": "mask", "kind": ["ip"]}, "Extra inputs are not permitted"),
    ],
)
def test_a_step_that_cannot_be_is_refused_with_what_is_accepted(task: str, step: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(task, step)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"source": "package://sklearn/iris", "clean": [{"do": "leakage"}]}, "are for uploads"),
        ({"split": {"column": "part", "group": "part"}}, "must be different columns"),
        ({"split": {"time": "when", "group": "who"}}, "time goes with neither"),
        ({"task": "image-classification", "split": {"group": "who"}}, "are for tables and text"),
    ],
)
def test_what_does_not_go_together_is_refused(more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        spec(**{"task": "tabular", **more})
