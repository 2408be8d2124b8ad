"""Files that call themselves models: nothing of them is run, and nothing is read that lies elsewhere."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Sequence
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


def built(
    *nodes: onnx.NodeProto,
    sparse: onnx.SparseTensorProto | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of these nodes, from x (n, 3) to y (n, 2)."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    if sparse is not None:
        graph.sparse_initializer.append(sparse)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, functions=list(functions))


def sparse_weights(places: list[int], dims: tuple[int, int] = (3, 2)) -> onnx.SparseTensorProto:
    """A tensor `w` that is 1 at some places of its numbers and 0 elsewhere."""
    values = helper.make_tensor("w", TensorProto.FLOAT, [len(places)], [1.0] * len(places))
    return helper.make_sparse_tensor(values, helper.make_tensor("at", TensorProto.INT64, [len(places)], places), dims)


PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"])


@pytest.mark.parametrize("places", [[0, 10**9], [-5, 1], [6], [0, 5]])
@pytest.mark.parametrize("where", ["initializer", "constant"])
def test_sparse_tensors_reach_no_place_outside_of_them(make_model: MakeModel, places: list[int], where: str) -> None:
    directory, weights = make_model(1.0), sparse_weights(places)
    constant = helper.make_node("Constant", [], ["w"], sparse_value=weights)
    model = built(PRODUCT, sparse=weights) if where == "initializer" else built(constant, PRODUCT)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    if places == [0, 5]:
        Session(directory, 1)
    else:
        refused(directory)


def test_a_sparse_tensor_that_says_it_is_huge_is_refused(make_model: MakeModel) -> None:
    directory = make_model(1.0)
    model = built(PRODUCT, sparse=sparse_weights([0], (2**31, 2**31)))
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    refused(directory)


def test_weights_in_another_file_are_not_found_from_a_branch_either(make_model: MakeModel, tmp_path: Path) -> None:
    directory = make_model(1.0)
    (tmp_path / "secret.bin").write_bytes(SECRET.tobytes())

    def branch(name: str) -> onnx.GraphProto:
        weights = external("../secret.bin").graph.initializer[0]
        product = helper.make_node("MatMul", ["x", "w"], [name])
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2])
        return helper.make_graph([product], name, [], [out], [weights])

    always = helper.make_node("Constant", [], ["c"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True]))
    chosen = helper.make_node("If", ["c"], ["y"], then_branch=branch("then"), else_branch=branch("else"))
    (directory / "model.onnx").write_bytes(built(always, chosen).SerializeToString())
    refused(directory)


@pytest.mark.parametrize("calls", [{"f": "f"}, {"f": "g", "g": "f"}])
def test_functions_that_call_one_another_without_end_are_refused(make_model: MakeModel, calls: dict[str, str]) -> None:
    directory = make_model(1.0)
    functions = [
        helper.make_function(
            "own",
            name,
            ["x"],
            ["y"],
            [helper.make_node(other, ["x"], ["y"], domain="own")],
            [helper.make_opsetid("own", 1)],
        )
        for name, other in calls.items()
    ]
    model = built(helper.make_node("f", ["x"], ["y"], domain="own"), functions=functions)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    refused(directory)
