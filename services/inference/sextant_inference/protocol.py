"""Requests and answers of the Open Inference Protocol v2, JSON and binary tensors.

Source: the protocol's REST specification (kserve/open-inference-protocol) and its binary tensor data extension.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json as parse_json

from sextant_inference.domain import tensors as t
from sextant_inference.runtime.session import Session
from sextant_shared.errors import InvalidInput

BINARY_SIZE = "binary_data_size"


@dataclass(frozen=True, slots=True)
class Request:
    """A checked request."""

    id: str | None
    tensors: dict[str, NDArray[Any]]
    binary_output: bool


def read(body: bytes, header_length: str | None, session: Session) -> Request:
    """Parse and check a request for a model. Raises InvalidInput naming the field."""
    head, tail = _split(body, header_length)
    try:
        request = parse_json(head, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidInput(f"the body is no JSON: {error}", field="body") from None
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        raise InvalidInput("there is no list of inputs", field="inputs", accepted="a list of tensors")
    specs = {spec.name: spec for spec in session.inputs}
    found: dict[str, NDArray[Any]] = {}
    for item in request["inputs"]:
        name = item.get("name") if isinstance(item, dict) else None
        if not isinstance(name, str) or name not in specs or name in found:
            accepted = ", ".join(specs) + ", each once"
            raise InvalidInput(f"unexpected input {str(name)[:80]!r}", field="inputs", accepted=accepted)
        found[name], tail = _tensor(specs[name], item, tail)
    if missing := sorted(set(specs) - set(found)):
        raise InvalidInput(f"the input {missing[0]!r} is missing", field="inputs", accepted=", ".join(specs))
    if tail:
        raise InvalidInput(f"{len(tail)} bytes follow the last tensor", field="body")
    if len({len(tensor) for tensor in found.values()}) > 1:
        raise InvalidInput("the inputs have different numbers of rows", field="inputs")
    parameters = request.get("parameters")
    binary = isinstance(parameters, dict) and parameters.get("binary_data_output") is True
    request_id = request.get("id")
    return Request(request_id if isinstance(request_id, str) else None, found, binary)


def _split(body: bytes, header_length: str | None) -> tuple[bytes, bytes]:
    if header_length is None:
        return body, b""
    if not (header_length.isascii() and header_length.isdigit() and int(header_length) <= len(body)):
        raise InvalidInput(
            "the length of the JSON part does not fit",
            field="Inference-Header-Content-Length",
            accepted=f"0 to {len(body)}",
        )
    return body[: int(header_length)], body[int(header_length) :]


def _tensor(spec: t.TensorSpec, item: dict[str, Any], tail: bytes) -> tuple[NDArray[Any], bytes]:
    t.check_datatype(spec, item.get("datatype"))
    given = item.get("shape")
    shape = t.check_shape(spec, given if isinstance(given, list) else [])
    parameters = item.get("parameters")
    size = parameters.get(BINARY_SIZE) if isinstance(parameters, dict) else None
    if size is None:
        return t.from_json(spec, shape, item.get("data")), tail
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(tail):
        raise InvalidInput(
            f"{str(size)[:40]} bytes announced", field=f"inputs.{spec.name}.parameters", accepted=f"0 to {len(tail)}"
        )
    return t.from_binary(spec, shape, tail[:size]), tail[size:]


def write(
    request: Request, session: Session, name: str, version: int, outputs: list[NDArray[Any]]
) -> tuple[bytes, dict[str, str]]:
    """The answer's body and headers."""
    described: list[dict[str, Any]] = []
    raw: list[bytes] = []
    for spec, output in zip(session.outputs, outputs, strict=True):
        item: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(output.shape)}
        if request.binary_output:
            raw.append(np.ascontiguousarray(output).tobytes())
            item["parameters"] = {BINARY_SIZE: len(raw[-1])}
        else:
            item["data"] = output.ravel().tolist()
        described.append(item)
    answer: dict[str, Any] = {"model_name": name, "model_version": str(version), "outputs": described}
    if request.id is not None:
        answer["id"] = request.id
    head = json.dumps(answer).encode()
    if not request.binary_output:
        return head, {"Content-Type": "application/json"}
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return head + b"".join(raw), headers
