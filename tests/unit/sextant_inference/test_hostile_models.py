"""Files that call themselves models: nothing of them is run, and nothing is read that lies elsewhere."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, helper, numpy_helper

from sextant_inference.runtime.session import Session
from sextant_shared.errors import InvalidInput

from .conftest import MakeModel

SECRET = np.full((3, 2), 42.0, np.float32)


class Opens:
    """A pickle that would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def refused(directory: Path) -> None:
    """It is, in words that tell nothing of where it lies."""
    with pytest.raises(InvalidInput) as error:
        Session(directory, 1)
    assert str(directory) not in error.value.message


def external(location: str) -> onnx.ModelProto:
    """A model whose weights lie in another file."""
    weights = numpy_helper.from_array(SECRET, "w")
    external_data_helper.set_external_data(weights, location)
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("kind", ["inside", "parent", "around", "absolute", "symlink", "hard link", "symlinked parent"])
def test_weights_in_another_file_are_found_nowhere(make_model: MakeModel, tmp_path: Path, kind: str) -> None:
    directory = make_model(1.0)
    outside = tmp_path / "secret.bin"
    outside.write_bytes(SECRET.tobytes())
    inside = directory / "w.bin"
    match kind:
        case "inside":
            inside.write_bytes(SECRET.tobytes())
        case "symlink":
            inside.symlink_to(outside)
        case "hard link":
            os.link(outside, inside)
        case "symlinked parent":
            (directory / "sub").symlink_to(tmp_path)
    location = {
        "parent": "../secret.bin",
        "around": "a/../../secret.bin",
        "absolute": str(outside),
        "symlinked parent": "sub/secret.bin",
    }.get(kind, "w.bin")
    (directory / "model.onnx").write_bytes(external(location).SerializeToString())
    before = Path.cwd()
    os.chdir(directory)  # nor where the process happens to be
    try:
        refused(directory)
    finally:
        os.chdir(before)


def test_a_pickle_is_not_opened(make_model: MakeModel, tmp_path: Path) -> None:
    directory, made = make_model(1.0), tmp_path / "made"
    (directory / "model.onnx").write_bytes(pickle.dumps(Opens(made)))
    refused(directory)
    assert not made.exists()


@pytest.mark.parametrize("keep", [0, 1, 10, 60])
def test_a_model_that_was_cut_off_is_refused(make_model: MakeModel, keep: int) -> None:
    directory = make_model(1.0)
    whole = (directory / "model.onnx").read_bytes()
    (directory / "model.onnx").write_bytes(whole[:keep])
    refused(directory)


def test_a_tensor_that_says_it_is_huge_is_refused(make_model: MakeModel) -> None:
    directory = make_model(1.0)
    model = onnx.load(directory / "model.onnx")
    model.graph.initializer[0].dims[:] = [2**31, 2**31]
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    refused(directory)
