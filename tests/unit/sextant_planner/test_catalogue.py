"""The shipped models are those that the field means by their names."""

from __future__ import annotations

import pytest

from sextant_planner import catalogue


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet50", 25_557_032),
        ("resnet152", 60_192_808),
        ("vit-b16", 86.5e6),
        ("bert-base", 109e6),
        ("llama-1b", 1.1e9),
        ("llama-8b", 8.03e9),
        ("llama-70b", 70.55e9),
    ],
)
def test_a_model_has_its_published_size(name: str, parameters: float) -> None:
    assert catalogue.model(name).parameters == pytest.approx(parameters, rel=0.003)


@pytest.mark.parametrize("name", catalogue.names("models"))
def test_a_decoders_work_follows_from_its_size(name: str) -> None:
    model = catalogue.model(name)
    if model.sequence > 1:
        # Two operations a parameter and token, and attention's share beside it.
        assert 0.8 < model.forward_flops / (2 * model.parameters * model.sequence) < 1.5
