"""Every architecture builds, gives what it says, refuses what it cannot do, and is the same in parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sextant_zoo import build, check, names
from sextant_zoo.blocks import BlockModel
from sextant_zoo.registry import ResnetConfig, UnknownModelError

SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...], int, tuple[int, ...]]] = {
    "decoder": ({"hidden": 32, "layers": 2, "heads": 4, "key_heads": 2, "vocabulary": 64}, (16,), 64, (16, 64)),
    "encoder": ({"hidden": 32, "layers": 2, "heads": 4, "vocabulary": 64}, (16,), 5, (5,)),
    "mlp": ({"hidden": 8}, (6,), 3, (3,)),
    "resnet50": ({"width": 4, "depths": [1, 1]}, (3, 16, 16), 5, (5,)),
    "resnet152": ({"width": 4, "depths": [2, 1]}, (3, 64, 64), 5, (5,)),
    "small-cnn": ({"channels": 4}, (1, 8, 8), 10, (10,)),
    "time-series": ({"hidden": 32, "layers": 2, "heads": 4, "patch": 4, "horizon": 3}, (18, 2), 0, (3, 2)),
    "unet": ({"channels": 8, "depth": 2, "groups": 4}, (3, 16, 16), 5, (5, 16, 16)),
    "vit": ({"hidden": 32, "layers": 2, "heads": 4}, (3, 16, 16), 5, (5,)),
}


def sample(name: str) -> Tensor:
    shape = SMALL[name][1]
    return torch.randint(0, 64, (2, *shape)) if name in ("decoder", "encoder") else torch.randn(2, *shape)


@pytest.mark.parametrize("name", names())
def test_it_gives_the_shape_that_it_says(name: str) -> None:
    config, shape, classes, output = SMALL[name]
    assert build(name, config, shape, classes)(sample(name)).shape == (2, *output)


@pytest.mark.parametrize("name", sorted(set(names()) - {"mlp", "small-cnn"}))
def test_two_parts_one_after_the_other_are_the_whole(name: str) -> None:
    config, shape, classes, _ = SMALL[name]
    model = build(name, config, shape, classes)
    assert isinstance(model, BlockModel)
    inputs = sample(name)
    for cut in range(1, len(model.blocks)):
        between = model.part(0, cut)(inputs)
        out = model.part(cut, len(model.blocks))(*(between if isinstance(between, tuple) else (between,)))
        torch.testing.assert_close(out, model(inputs), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "parameters"), [("resnet50", 25_557_032), ("resnet152", 60_192_808)])
def test_the_residual_networks_have_the_published_sizes(name: str, parameters: int) -> None:
    with torch.device("meta"):
        model = build(name, {}, (3, 224, 224), 1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


def test_a_decoder_sees_nothing_of_what_comes_later() -> None:
    config, shape, classes, _ = SMALL["decoder"]
    for style in ("llama", "gpt"):
        model = build("decoder", {**config, "style": style}, shape, classes)
        tokens = sample("decoder")
        later = tokens.clone()
        later[:, 9:] = (later[:, 9:] + 1) % 64
        torch.testing.assert_close(model(tokens)[:, :9], model(later)[:, :9])


@pytest.mark.parametrize(
    ("name", "config", "field"),
    [
        ("decoder", {"hidden": 30, "heads": 4}, "model.config"),
        ("decoder", {"heads": 4, "key_heads": 3}, "model.config"),
        ("unet", {"channels": 12, "groups": 8}, "model.config"),
        ("resnet50", {"depths": [0]}, "model.config"),
        ("vit", {"patches": 3}, "model.config.patches"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(name: str, config: dict[str, Any], field: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        check(name, config)
    assert caught.value.field.rstrip(".") == field


@pytest.mark.parametrize(
    ("name", "shape"),
    [("decoder", (17, 3)), ("vit", (3, 15, 15)), ("unet", (3, 10, 10)), ("time-series", (7, 1)), ("resnet50", (5,))],
)
def test_inputs_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...]) -> None:
    config, _, classes, _ = SMALL[name]
    with pytest.raises(UnknownModelError, match=r"got"):
        build(name, config, shape, classes)


def test_every_rule_names_a_submodule() -> None:
    for name in set(names()) - {"mlp", "small-cnn"}:
        config, shape, classes, _ = SMALL[name]
        model = build(name, config, shape, classes)
        assert isinstance(model, BlockModel)
        for block in model.blocks.values():
            known = dict(block.named_modules())
            optional = {"mlp.gate"}  # only gated layers have one
            assert set(getattr(block, "tensor_rules", {})) - optional <= set(known)
            assert set(getattr(block, "attention_names", ())) <= set(known)


def test_settings_have_defaults_that_are_accepted() -> None:
    assert isinstance(check("resnet50", {}), ResnetConfig)
    for name in names():
        assert check(name, {})
