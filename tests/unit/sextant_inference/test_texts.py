"""A model of texts: the service makes tokens of them, and refuses what is no text."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from fastapi import Request
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import CollectorRegistry

from sextant_inference import api
from sextant_inference.metrics import InferenceMetrics
from sextant_inference.runtime.models import Models
from sextant_inference.runtime.session import Session
from sextant_shared.errors import InvalidInput

from .conftest import wanted

TOKENIZER: dict[str, Any] = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"[PAD]": 0, "[UNK]": 1, "send": 10, "it": 100}, "unk_token": "[UNK]"},
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A model that sums the tokens of a text, of four at most."""
    nodes = [
        helper.make_node(
            "Cast",
            [
                "input",
            ],
            ["wide"],
            to=TensorProto.FLOAT,
        ),
        helper.make_node("ReduceSum", ["wide", "axes"], ["logits"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.INT64, ["n", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(np.array([1], np.int64), "axes")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "model.onnx"
    )
    about = {
        "format": "onnx",
        "inputs": [{"name": "input", "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 1]}],
        "tokenizer": {"file": "tokenizer.json", "length": 4, "padding": 0},
    }
    (tmp_path / "model.json").write_text(json.dumps(about))
    (tmp_path / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    return tmp_path


def ask(directory: Path, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
    """The answer of a service that serves the model alone."""
    metrics = InferenceMetrics(CollectorRegistry())
    models = Models(1, metrics)

    async def everyone(request: Request) -> str:
        """Let pass."""
        return "default"

    async def one() -> httpx.Response:
        await models.load(wanted(directory))
        app = api.create(models, everyone, metrics, 10_000)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inference") as http:
            return await http.post("/v2/models/net/infer", content=body, headers=headers or {})

    return asyncio.run(one())


def in_json(data: Any, shape: list[int]) -> bytes:
    tensor = {"name": "input", "datatype": "BYTES", "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor]}).encode()


def test_texts_are_brought_to_tokens_cut_and_filled_up(directory: Path) -> None:
    answer = ask(directory, in_json(["Send it", "", "it it it it it", "never"], [4]))
    assert answer.json()["outputs"][0]["data"] == [110, 0, 400, 1]


def test_texts_in_the_binary_form_have_their_length_before_them(directory: Path) -> None:
    texts = [b"send", "it \u00fc".encode()]
    tail = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    tensor = {"name": "input", "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    answer = ask(directory, head + tail, {"Inference-Header-Content-Length": str(len(head))})
    assert answer.json()["outputs"][0]["data"] == [10, 101]


@pytest.mark.parametrize(
    ("data", "shape"),
    [([1], [1]), (["a"], [2]), ("a", [1]), ([["a"]], [1]), ([None], [1]), ({"a": 1}, [1])],
)
def test_what_is_no_text_is_a_422_that_names_the_field(directory: Path, data: Any, shape: list[int]) -> None:
    answer = ask(directory, in_json(data, shape))
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"].startswith("inputs.input.data: ")


@pytest.mark.parametrize("tail", [b"\x09\0\0\0abc", b"\x01\0", b"\x01\0\0\0\xff", b"", b"\xff\xff\xff\xff"])
def test_bytes_that_are_no_texts_are_a_422(directory: Path, tail: bytes) -> None:
    tensor = {"name": "input", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(tail)}}
    head = json.dumps({"inputs": [tensor]}).encode()
    answer = ask(directory, head + tail, {"Inference-Header-Content-Length": str(len(head))})
    assert answer.status_code == 422, answer.text


def test_a_tokenizer_that_is_none_is_refused_when_the_model_is_loaded(directory: Path) -> None:
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"tokenizer\.json cannot be read"):
        Session(directory, 1)
