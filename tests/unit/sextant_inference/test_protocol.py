"""The Open Inference Protocol v2, as clients speak it and as they should not."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import Request

from sextant_inference import api
from sextant_inference.gate import Gate
from sextant_inference.metrics import InferenceMetrics
from sextant_inference.runtime.models import Models
from sextant_shared.errors import Unavailable
from sextant_shared.store.engine import connect_async

from .conftest import MakeModel, wanted

Call = Callable[..., httpx.Response]
GOOD = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [[1, 2, 3], [4, 5, 6]]}
BINARY = {"name": "x", "datatype": "FP32", "shape": [2, 3], "parameters": {"binary_data_size": 24}}
LIMIT = 10_000


@pytest.fixture
def call(models: Models, metrics: InferenceMetrics, make_model: MakeModel) -> Call:
    """`call(method, path, ...)` on a service that serves `net` and lets everyone in."""

    async def everyone(request: Request) -> str:
        """Let pass."""
        return "default"

    app = api.create(models, everyone, metrics, LIMIT)
    directory = make_model(1.0)

    async def one(method: str, path: str, **rest: Any) -> httpx.Response:
        if not models.generations():
            await models.load(wanted(directory))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://inference") as http:
            return await http.request(method, path, **rest)

    return lambda *arguments, **rest: asyncio.run(one(*arguments, **rest))


def infer(call: Call, *inputs: Any, **rest: Any) -> httpx.Response:
    """The answer to a JSON request."""
    return call("POST", "/v2/models/net/infer", json={"inputs": list(inputs), **rest})


def test_a_request_is_answered_with_its_id_nested_or_flat(call: Call) -> None:
    flat = {**GOOD, "data": [1, 2, 3, 4, 5, 6]}
    for tensor in (GOOD, flat):
        answer = infer(call, tensor, id="mine").json()
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("net", "1", "mine")
        assert answer["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [2, 2], "data": [3, 3, 9, 6]}]


def test_bytes_in_and_out_give_the_same_numbers(call: Call) -> None:
    head = json.dumps({"inputs": [BINARY], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body = head + struct.pack("<6f", *range(1, 7))
    answer = call("POST", "/v2/models/net/versions/1/infer", content=body, headers=headers)
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert json.loads(answer.content[:length])["outputs"][0]["shape"] == [2, 2]
    assert struct.unpack("<4f", answer.content[length:]) == (3, 3, 9, 6)


def test_the_metadata_say_what_a_model_takes(call: Call) -> None:
    about = call("GET", "/v2/models/net").json()
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert call("GET", "/v2/models/net/ready").json() == {"name": "net", "ready": True}
    assert "binary_tensor_data" in call("GET", "/v2").json()["extensions"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "z"}, "inputs"),
        ({"name": None}, "inputs"),
        ({"datatype": "FP64"}, "inputs.x.datatype"),
        ({"datatype": None}, "inputs.x.datatype"),
        ({"shape": [2, 4]}, "inputs.x.shape"),
        ({"shape": [2]}, "inputs.x.shape"),
        ({"shape": [0, 3]}, "inputs.x.shape"),
        ({"shape": [2.0, 3]}, "inputs.x.shape"),
        ({"shape": []}, "inputs.x.shape"),
        ({"shape": [-2, -3]}, "inputs.x.shape"),
        ({"shape": [2, 3, 1]}, "inputs.x.shape"),
        ({"shape": [2**63, 3]}, "inputs.x.shape"),
        ({"shape": [True, 3]}, "inputs.x.shape"),
        ({"shape": [3] * 2000}, "inputs.x.shape"),
        ({"shape": [10**12, 3]}, "inputs.x.shape"),
        ({"shape": "2,3"}, "inputs.x.shape"),
        ({"data": [1, 2, 3]}, "inputs.x.data"),
        ({"data": [[1, 2, 3], [4, 5]]}, "inputs.x.data"),
        ({"data": ["1", "2", "3", "4", "5", "6"]}, "inputs.x.data"),
        ({"data": [None] * 6}, "inputs.x.data"),
        ({"data": {"a": 1}}, "inputs.x.data"),
        ({"data": None}, "inputs.x.data"),
        ({"parameters": {"binary_data_size": 24}}, "inputs.x.parameters"),
        ({"parameters": {"binary_data_size": -1}}, "inputs.x.parameters"),
    ],
)
def test_a_tensor_that_does_not_fit_is_a_422_that_names_the_field(
    call: Call, changes: dict[str, Any], field: str
) -> None:
    answer = infer(call, {**GOOD, **changes})
    assert answer.status_code == 422, answer.text
    assert answer.json()["error"].startswith(f"{field}: "), answer.text


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"inputs": {}}', b'{"inputs": []}', b'{"inputs": [1]}', b"[" * 9000, b"\xff"],
)
def test_a_body_that_is_no_request_is_a_422(call: Call, body: bytes) -> None:
    assert call("POST", "/v2/models/net/infer", content=body).status_code == 422


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_is_none_is_a_422(call: Call, number: str) -> None:
    body = json.dumps({"inputs": [GOOD]}).replace("[1,", f"[{number},")
    assert call("POST", "/v2/models/net/infer", content=body.encode()).status_code == 422


@pytest.mark.parametrize(
    ("tail", "length"), [(b"", None), (b"\0" * 23, None), (b"\0" * 25, None), (b"\0" * 24, "9999"), (b"\0" * 24, "-1")]
)
def test_bytes_that_do_not_fit_their_announcement_are_a_422(call: Call, tail: bytes, length: str | None) -> None:
    head = json.dumps({"inputs": [BINARY]}).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    assert call("POST", "/v2/models/net/infer", content=head + tail, headers=headers).status_code == 422


def test_bytes_that_are_no_number_are_a_422(call: Call) -> None:
    head = json.dumps({"inputs": [BINARY]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    answer = call(
        "POST", "/v2/models/net/infer", content=head + struct.pack("<6f", *[float("nan")] * 6), headers=headers
    )
    assert (answer.status_code, answer.json()["error"]) == (422, "inputs.x: a value is not finite")


def test_doubled_inputs_are_refused_and_so_is_a_body_that_is_too_large(call: Call) -> None:
    assert infer(call, GOOD, GOOD).status_code == 422
    assert call("POST", "/v2/models/net/infer", content=b" " * (LIMIT + 1)).status_code == 413


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/net/versions/2/ready", "/v2/nothing"])
def test_what_is_not_there_is_a_404_with_an_error(call: Call, path: str) -> None:
    answer = call("GET", path)
    assert answer.status_code == 404
    assert answer.json()["error"]


def test_a_key_that_cannot_be_looked_up_is_told_as_something_that_passes() -> None:
    engine = connect_async("postgresql+psycopg://nobody@127.0.0.1:9/none")
    request = Request({"type": "http", "headers": [(b"authorization", b"Bearer sx_a_b")]})
    with pytest.raises(Unavailable):
        asyncio.run(Gate(engine).check(request))
