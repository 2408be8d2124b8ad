"""A live endpoint over the Open Inference Protocol, held to the version that it served at first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from numpy.typing import NDArray

from sextant_shared.errors import Unavailable, WorkFailed

NUMPY = {"FP32": np.float32, "INT64": np.int64}


class Endpoint:
    """What is served under a name. Its calls raise Unavailable where the service cannot be reached, is overloaded or
    serves another version by now, and WorkFailed where it refuses.
    """

    def __init__(self, client: httpx.Client, name: str) -> None:
        """Ask what is served."""
        self.name = name
        self._client = client
        self._path = f"/v2/models/{quote(name, safe='')}"
        about = self._answered("GET", self._path).json()
        self.version = int(about["versions"][0])
        self._path += f"/versions/{self.version}"
        outside = about.get("parameters", {}).get("out_of_scope")
        self.place_of_rejection = int(outside["place"]) if outside else None
        """Which of its classes stands for rows out of scope, if one does."""

    def infer(self, values: NDArray[Any]) -> NDArray[Any]:
        """The only output, or the first one; as `infer_all`."""
        return self.infer_all(values)[0]

    def infer_all(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """All outputs of one call, tensors in binary both ways."""
        datatype, raw = _binary(values)
        tensor = {
            "name": "input",
            "shape": list(values.shape),
            "datatype": datatype,
            "parameters": {"binary_data_size": len(raw)},
        }
        header = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        headers = {"Inference-Header-Content-Length": str(len(header)), "Content-Type": "application/octet-stream"}
        answer = self._answered("POST", f"{self._path}/infer", content=header + raw, headers=headers)
        length = int(answer.headers["inference-header-content-length"])
        found, at = [], length
        for output in json.loads(answer.content[:length])["outputs"]:
            size = output["parameters"]["binary_data_size"]
            values_of = np.frombuffer(answer.content[at : at + size], NUMPY[output["datatype"]])
            found.append(values_of.reshape(output["shape"]))
            at += size
        return found

    def _answered(self, method: str, path: str, **content: Any) -> httpx.Response:
        try:
            answer = self._client.request(method, path, **content)
        except httpx.TransportError as error:
            raise Unavailable(f"the endpoint {self.name!r} cannot be reached: {error}") from None
        if answer.status_code in (429, 502, 503, 504):
            raise Unavailable(f"the endpoint {self.name!r} is not available: {answer.text[:200]}")
        if answer.status_code == 404 and method == "POST":
            raise Unavailable(f"the endpoint {self.name!r} serves version {self.version} no longer")
        if answer.status_code != 200:
            told = f"the endpoint {self.name!r} refused the {'input' if method == 'POST' else 'question'}"
            raise WorkFailed(f"{told} ({answer.status_code}): {answer.text[:500]}")
        return answer


@contextmanager
def connected(service: dict[str, str], name: str) -> Iterator[Endpoint]:
    """The endpoint at an inference service, which is told as a work order tells it: `url`, `key`, `tenant`."""
    headers = {"Authorization": f"Bearer {service['key']}", "Sextant-Tenant": service["tenant"]}
    with httpx.Client(base_url=service["url"], headers=headers, timeout=30) as client:
        yield Endpoint(client, name)


def _binary(values: NDArray[Any]) -> tuple[str, bytes]:
    """The protocol's name of the type, and the values in its binary form: texts with their lengths before them."""
    if values.dtype == np.object_:
        texts = [text.encode() for text in values.tolist()]
        return "BYTES", b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return "UINT8" if values.dtype == np.uint8 else "FP32", np.ascontiguousarray(values).tobytes()
