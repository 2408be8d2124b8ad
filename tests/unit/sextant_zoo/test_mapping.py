"""A model as a mapping: families go by the task, settings by usual names, faults by those that were written."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.unit.sextant_zoo import tiny

from sextant_zoo import build, check, describe, names
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.mapping import FAMILIES, SYNONYMS, check_mapping
from sextant_zoo.transformer import AttentionCore, TransformerLayer

SIZES = {"hidden_size": 32, "num_heads": 4, "num_layers": 1, "attention_dropout": 0.1}


@pytest.mark.parametrize(
    ("task", "member", "shape"),
    [
        ("text-classification", "bert", (12,)),
        ("image-classification", "vit", (3, 8, 8)),
        ("forecasting", "time-series", (48, 2)),
        ("tabular", "ft-transformer", (6,)),
    ],
)
def test_a_family_is_what_the_task_needs_with_the_settings_of_the_mapping(
    task: str, member: str, shape: tuple[int, ...]
) -> None:
    name, settings = check_mapping("transformer", SIZES, task)
    assert (name, settings) == (member, {"hidden": 32, "heads": 4, "layers": 1, "attention_dropout": 0.1})
    model = build(name, settings, shape, 3)
    drops = [module.dropout for module in model.modules() if isinstance(module, AttentionCore)]
    drops += [module.p for path, module in model.named_modules() if path.endswith("attention.self.dropout")]
    assert drops == [0.1]


def test_a_single_architecture_can_be_named_too() -> None:
    given = {"width": 8, "depths": [1, 1]}
    assert check_mapping("resnet18", given, "image-classification") == ("resnet18", given)


def test_members_and_synonyms_are_of_the_zoo() -> None:
    assert {name for members in FAMILIES.values() for name in members} <= set(names())
    assert not set(FAMILIES) & set(names())
    settings = {setting for name in names() for setting in describe(name).config.model_fields}
    assert set(SYNONYMS.values()) <= settings
    assert not set(SYNONYMS) & settings


@pytest.mark.parametrize(
    ("architecture", "settings", "task", "field", "says"),
    [
        ("transfomer", {}, "tabular", "model.architecture", "no architecture"),
        ("resnet", {}, "tabular", "model.architecture", "not for the task tabular"),
        ("bert", {}, "tabular", "model.architecture", "not for the task tabular"),
        ("transformer", {"hidden_sizes": 4}, "tabular", "model.hidden_sizes", "has the settings: hidden, layers"),
        ("transformer", {"hidden_size": 4}, "tabular", "model.hidden_size", r"greater than or equal to 8 \(given 4\)"),
        ("transformer", {"num_heads": "4"}, "tabular", "model.num_heads", "valid integer"),
        ("transformer", {"hidden_size": 36, "num_heads": 4}, "tabular", "model", r"hidden \(36\)"),
        ("transformer", {"heads": 4, "num_heads": 4}, "tabular", "model.num_heads", "the same setting"),
        ("transformer", {"hidden_sizes": 4}, None, "model.hidden_sizes", "bert has the settings"),
        ("t5-encoder", {"depths": [1, 0]}, None, "model.depths", "not permitted"),
    ],
)
def test_what_is_not_taken_is_named_as_it_was_written(
    architecture: str, settings: dict[str, Any], task: str | None, field: str, says: str
) -> None:
    with pytest.raises(UnknownModelError, match=says) as caught:
        check_mapping(architecture, settings, task)
    assert caught.value.field == field


def test_without_a_task_a_family_takes_what_any_member_takes() -> None:
    assert check_mapping("transformer", {"patch_size": 8}, None) == ("vit", {"patch": 8})


@pytest.mark.parametrize("name", ["encoder", "vit", "time-series", "ft-transformer", "decoder", "bert", "gpt2"])
def test_attention_dropout_changes_training_and_not_what_is_served(name: str) -> None:
    config, shape, classes, _ = tiny.TEXTS.get(name) or tiny.IMAGES.get(name) or tiny.OTHERS[name]
    assert check(name, {**config, "attention_dropout": 0.5}) != check(name, config)
    torch.manual_seed(0)
    model = build(name, {**config, "dropout": 0.0, "attention_dropout": 0.5}, shape, classes)
    text = describe(name).modality == "text"
    inputs = torch.randint(2, 64, (2, *shape)) if text else torch.randn(2, *shape)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))


def test_residual_dropout_changes_training_alone() -> None:
    layer = TransformerLayer(16, 2, 32, dropout=0.5)
    inputs = torch.randn(2, 4, 16)
    assert not torch.equal(layer(inputs), layer(inputs))
    layer.eval()
    assert torch.equal(layer(inputs), layer(inputs))
