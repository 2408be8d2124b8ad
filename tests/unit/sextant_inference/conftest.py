"""A model that multiplies: what it answers is known."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from prometheus_client import CollectorRegistry

from sextant_inference.metrics import InferenceMetrics
from sextant_inference.runtime.models import Models, Wanted

MakeModel = Callable[[float], Path]


@pytest.fixture
def make_model(tmp_path: Path) -> MakeModel:
    """`make(factor)` writes an exported model version: y = factor * (x0 + x1, x2), for rows of three FP32 numbers."""

    def make(factor: float) -> Path:
        directory = tmp_path / f"model-{factor}"
        directory.mkdir()
        weights = np.array([[factor, 0], [factor, 0], [0, factor]], np.float32)
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
            [numpy_helper.from_array(weights, "w")],
        )
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(made, directory / "model.onnx")
        about = {
            "format": "onnx",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
        }
        (directory / "model.json").write_text(json.dumps(about))
        return directory

    return make


@pytest.fixture
def metrics() -> InferenceMetrics:
    """In a registry of their own."""
    return InferenceMetrics(CollectorRegistry())


@pytest.fixture
def models(metrics: InferenceMetrics) -> Models:
    """An empty set of served models, and nothing is to be loaded any more."""
    made = Models(1, metrics)
    made.settled = True
    return made


def wanted(directory: Path, generation: int = 1, max_batch_size: int = 8) -> Wanted:
    """The endpoint `net`, served from `directory`."""
    return Wanted("default", "net", generation, generation, directory, max_batch_size, 0.0)
