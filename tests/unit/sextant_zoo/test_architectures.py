"""Every architecture builds, gives what it says, refuses what it cannot do, and is the same in parts."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from tests.unit.sextant_zoo import tiny
from torch import Tensor

from sextant_zoo import build, check, describe, names
from sextant_zoo.blocks import BlockModel
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.settings import ResnetConfig

SMALL: dict[str, tuple[dict[str, Any], tuple[int, ...], int, tuple[int, ...]]] = {
    **tiny.IMAGES,
    **tiny.TEXTS,
    **tiny.OTHERS,
}
PUBLISHED = [
    ("resnet18", 11_689_512),
    ("resnet34", 21_797_672),
    ("resnet50", 25_557_032),
    ("resnet101", 44_549_160),
    ("resnet152", 60_192_808),
    ("mobilenet-v2", 3_504_872),
    ("mobilenet-v3-small", 2_542_856),
    ("mobilenet-v3-large", 5_483_032),
    ("efficientnet-b0", 5_288_548),
    ("efficientnet-lite0", 4_652_008),
    ("efficientnet-b3", 12_233_232),
    ("regnet-y-8gf", 39_381_472),
    ("convnext-tiny", 28_589_128),
    ("swin-tiny", 28_288_354),
]
CHAINS = sorted(name for name in names() if "pipeline" in describe(name).splits)


def sample(name: str) -> Tensor:
    shape = SMALL[name][1]
    return torch.randint(2, 64, (2, *shape)) if describe(name).modality == "text" else torch.randn(2, *shape)


def test_there_is_a_tiny_one_of_each() -> None:
    assert set(SMALL) == set(names())


@pytest.mark.parametrize("name", names())
def test_it_gives_the_shape_that_it_says_and_a_gradient_to_every_weight(name: str) -> None:
    config, shape, classes, output = SMALL[name]
    torch.manual_seed(0)
    model = build(name, config, shape, classes)
    made = model(sample(name))
    assert made.shape == (2, *output)
    made.float().square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", names())
def test_the_seed_alone_makes_its_weights(name: str) -> None:
    config, shape, classes, _ = SMALL[name]
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build(name, config, shape, classes).state_dict())
    for key, value in states[0].items():
        torch.testing.assert_close(value, states[1][key], rtol=0, atol=0)


@pytest.mark.parametrize("name", CHAINS)
def test_two_parts_one_after_the_other_are_the_whole(name: str) -> None:
    config, shape, classes, _ = SMALL[name]
    model = build(name, config, shape, classes).eval()
    assert isinstance(model, BlockModel)
    inputs = sample(name)
    for cut in range(1, len(model.blocks)):
        between = model.part(0, cut)(inputs)
        out = model.part(cut, len(model.blocks))(*(between if isinstance(between, tuple) else (between,)))
        torch.testing.assert_close(out, model(inputs), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED)
def test_the_image_models_have_the_published_sizes(name: str, parameters: int) -> None:
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
        ("swin-tiny", {"depths": [1]}, "model.config"),
        ("bert", {"hidden": 10, "heads": 4}, "model.config"),
        ("roberta", {"padding": 50265}, "model.config"),
        ("mobilenet-v2", {"width": 0.0}, "model.config.width"),
        ("detector", {"backbone": "vit"}, "model.config.backbone"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(name: str, config: dict[str, Any], field: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        check(name, config)
    assert caught.value.field.rstrip(".") == field


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("decoder", (17, 3)),
        ("vit", (3, 15, 15)),
        ("unet", (3, 10, 10)),
        ("detector", (2, 60, 64)),
        ("time-series", (7, 1)),
        ("resnet50", (5,)),
        ("mobilenet-v2", (5,)),
        ("swin-tiny", (3, 16, 12)),
        ("convnext-tiny", (3, 2, 2)),
        ("deit-small", (3, 15, 15)),
        ("bert", (33,)),
        ("gpt2", (33,)),
        ("dlinear", (5,)),
        ("patchtst", (3, 2)),
        ("ft-transformer", (3, 8, 8)),
    ],
)
def test_inputs_that_do_not_fit_are_refused(name: str, shape: tuple[int, ...]) -> None:
    config, _, classes, _ = SMALL[name]
    with pytest.raises(UnknownModelError, match=r"got"):
        build(name, config, shape, classes)


def test_padding_changes_nothing() -> None:
    for name in ("bert", "roberta", "distilbert", "albert", "electra", "modernbert", "minilm", "t5-encoder"):
        config, shape, classes, _ = SMALL[name]
        model = build(name, config, shape, classes).eval()
        padding = int(check(name, config).model_dump()["padding"])
        tokens = sample(name)
        longer = torch.cat([tokens, torch.full((2, 4), padding)], 1)
        # Sums over masked places differ in their order alone.
        torch.testing.assert_close(model(longer), model(tokens), rtol=1e-4, atol=1e-5)


def test_every_rule_names_a_submodule() -> None:
    for name in CHAINS:
        config, shape, classes, _ = SMALL[name]
        model = build(name, config, shape, classes)
        assert isinstance(model, BlockModel)
        for block in model.blocks.values():
            known = dict(block.named_modules())
            optional = {"mlp.gate"}  # only gated layers have one
            assert set(getattr(block, "tensor_rules", {})) - optional <= set(known)
            assert set(getattr(block, "attention_names", ())) <= set(known)


def test_nothing_is_imported_to_look_at_the_zoo() -> None:
    program = "import sys, sextant_zoo as z; [z.describe(n) for n in z.names()]; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers"} & set(modules)


def test_the_modules_of_the_zoo_are_imported_without_transformers() -> None:
    program = (
        "import sys, sextant_zoo as z; from importlib import import_module as i;"
        "[i(z.describe(n).module) for n in z.names()]; print(*sys.modules)"
    )
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in modules
    assert "transformers" not in modules


def test_settings_have_defaults_that_are_accepted() -> None:
    assert isinstance(check("resnet50", {}), ResnetConfig)
    for name in names():
        assert check(name, {})
