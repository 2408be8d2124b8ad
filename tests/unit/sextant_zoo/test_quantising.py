"""Layers that compute on rounded numbers while they are trained."""

from __future__ import annotations

import torch
from torch import nn

from sextant_zoo import build
from sextant_zoo.quantising import round_layers, rounded_input, rounded_weight


def test_a_weight_has_255_steps_a_channel_and_none_is_far_off() -> None:
    torch.manual_seed(0)
    weight = torch.randn(4, 8, 3, 3) * torch.tensor([0.01, 1.0, 5.0, 100.0]).view(4, 1, 1, 1)
    rounded = rounded_weight(weight)
    step = weight.flatten(1).abs().amax(1) / 127
    whole = rounded.flatten(1) / step.unsqueeze(1)
    # Whole numbers but for rounding in float32.
    torch.testing.assert_close(whole, whole.round(), rtol=0, atol=1e-4)
    assert bool(((rounded - weight).flatten(1).abs().amax(1) <= step * 0.501).all())


def test_scaled_channels_have_the_same_steps() -> None:
    """What a normalisation behind a layer does to its channels can be done to its weights before or after rounding."""
    torch.manual_seed(0)
    weight, scale = torch.randn(6, 5), torch.tensor([0.5, -2.0, 3.0, 0.1, 7.0, -0.3]).unsqueeze(1)
    torch.testing.assert_close(rounded_weight(weight * scale), rounded_weight(weight) * scale)


def test_an_input_is_near_itself_and_zero_stays_zero() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 50).relu() + torch.tensor([0.0, 0.2, -0.1]).unsqueeze(1)
    x[1, 7] = 0.0
    rounded = rounded_input(x)
    step = float(x.max() - x.min()) / 255
    assert float((rounded - x).abs().max()) <= step
    assert float(rounded[1, 7]) == 0.0
    assert len(set(rounded.ravel().tolist())) <= 256


def test_the_tensors_keep_their_names_and_learn() -> None:
    torch.manual_seed(0)
    model = build("small-cnn", {"channels": 8}, (1, 8, 8), 3)
    plain = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(5, 1, 8, 8)
    model.eval()
    with torch.no_grad():
        before = model(x)
    assert round_layers(model) > 0
    assert {name: value.shape for name, value in model.state_dict().items()} == {n: v.shape for n, v in plain.items()}
    after = model(x)
    assert 0 < float((after.detach() - before).abs().max()) < 0.1 * float(before.abs().max())
    after.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())


def test_the_layer_that_gives_the_result_stays() -> None:
    model = nn.ModuleDict({"inner": nn.Linear(2, 2), "output": nn.Linear(2, 2)})
    assert round_layers(model) == 1
    assert type(model["output"]) is nn.Linear
