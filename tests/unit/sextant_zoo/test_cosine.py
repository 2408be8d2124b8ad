"""Heads that go by directions alone."""

from __future__ import annotations

import pytest
import torch
from tests.unit.sextant_zoo import tiny

from sextant_zoo.cosine import CosineLinear
from sextant_zoo.registry import UnknownModelError, build


def test_how_long_features_and_weights_are_counts_for_nothing() -> None:
    head = CosineLinear(6, 4)
    x = torch.randn(3, 5, 6)
    logits = head(x)
    assert logits.abs().max() <= head.SCALE
    torch.testing.assert_close(head(7 * x), logits)
    with torch.no_grad():
        head.weight *= 3.0
    torch.testing.assert_close(head(x), logits)
    torch.testing.assert_close(head(head.weight).diagonal(), torch.full((4,), head.SCALE))


def test_an_encoder_has_one_where_it_is_asked_for() -> None:
    config, shape, classes, _ = tiny.TEXTS["bert"]
    model = build("bert", {**config, "head": "cosine"}, shape, classes).eval()
    assert isinstance(model.output, CosineLinear)
    logits = model(torch.randint(2, 64, (2, *shape)))
    assert logits.shape == (2, classes)
    assert logits.abs().max() <= CosineLinear.SCALE


def test_a_causal_model_has_none() -> None:
    config, shape, classes, _ = tiny.TEXTS["gpt2"]
    with pytest.raises(UnknownModelError) as caught:
        build("gpt2", {**config, "head": "cosine"}, shape, classes)
    assert caught.value.field == "model.config.head"
