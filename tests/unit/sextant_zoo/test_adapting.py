"""Low-rank changes begin as nothing, are all that is trained, and go into the plain weights at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.unit.sextant_zoo.tiny import IMAGES, OTHERS, TEXTS

from sextant_parallel.profiling.trace import trace
from sextant_zoo import build
from sextant_zoo.adapting import add_low_rank, freeze, merged


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    config, shape, classes, _ = TEXTS["bert"]
    return build("bert", config, shape, classes)


def train(made: torch.nn.Module, tokens: torch.Tensor) -> None:
    optimizer = torch.optim.SGD([p for p in made.parameters() if p.requires_grad], 0.1)
    for _ in range(3):
        optimizer.zero_grad()
        made(tokens).square().sum().backward()
        optimizer.step()


def test_low_rank_changes_merge_into_the_plain_model() -> None:
    plain, changed = model().eval(), model().eval()
    tokens = torch.randint(1, 64, (3, 12))
    assert add_low_rank(changed, 4) == 2 * 6
    torch.testing.assert_close(changed(tokens), plain(tokens))
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    train(changed, tokens)
    state = {name: value.detach() for name, value in changed.state_dict().items()}
    for name, value in before.items():
        if not name.startswith("output."):
            torch.testing.assert_close(state[name], value, rtol=0, atol=0)
    plain.load_state_dict(merged(state))
    # The product is taken once, in place of two after each other.
    torch.testing.assert_close(plain(tokens), changed(tokens), rtol=1e-4, atol=1e-5)
    assert any(not torch.equal(value, before[name]) for name, value in plain.state_dict().items())


def test_a_frozen_model_trains_its_head_alone() -> None:
    made = model()
    freeze(made)
    assert [name for name, p in made.named_parameters() if p.requires_grad] == ["output.weight", "output.bias"]


def test_a_plain_state_stays_as_it_is() -> None:
    state = dict(model().state_dict())
    assert merged(state).keys() == state.keys()


def test_a_frozen_network_of_images_keeps_what_its_batches_are_normalised_by() -> None:
    torch.manual_seed(0)
    config, shape, classes, _ = IMAGES["efficientnet-lite0"]
    made = build("efficientnet-lite0", {**config, "dropout": 0.0}, shape, classes)
    pixels = torch.randn(4, *shape)
    expected = made.eval()(pixels)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    freeze(made)
    torch.testing.assert_close(made.train()(pixels), expected)
    train(made, pixels)
    changed = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"blocks.head.output.weight", "blocks.head.output.bias"}
    assert made.state_dict().keys() == before.keys()


def test_a_network_without_linear_layers_has_nothing_of_low_rank() -> None:
    config, shape, classes, _ = IMAGES["efficientnet-lite0"]
    assert add_low_rank(build("efficientnet-lite0", config, shape, classes), 4) == 0


def test_a_frozen_series_model_keeps_what_its_batches_are_normalised_by_too() -> None:
    config, shape, classes, _ = OTHERS["patchtst"]
    made = build("patchtst", config, shape, classes)
    freeze(made)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made.train()(torch.randn(4, *shape))
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


@pytest.mark.parametrize(("zoo", "change"), [("resnet18", freeze), ("vit", lambda model: add_low_rank(model, 2))])
def test_no_rule_splits_a_block_whose_layers_were_changed(zoo: str, change: Callable[[torch.nn.Module], int]) -> None:
    config, shape, classes, _ = IMAGES[zoo]
    made: Any = build(zoo, config, shape, classes)
    profile = trace(made, torch.zeros(2, *shape))
    assert any(block.tensor is not None for block in profile.blocks[1:-1])
    assert change(made)
    assert all(block.tensor is None for block in trace(made, torch.zeros(2, *shape)).blocks[1:-1])
