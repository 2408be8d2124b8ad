"""An exported model in eight bits, for a network that was trained to bear it: ranges from inputs that came with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from safetensors import SafetensorError
from safetensors.numpy import load_file

from sextant_exporter import detections
from sextant_exporter.serving import outputs
from sextant_shared.errors import InvalidInput, WorkFailed
from sextant_zoo.quantising import SKIPPED

CALIBRATION = "calibration.safetensors"
LAYERS = ("Conv", "Gemm", "MatMul")


def quantise(model: Path, source: Path, about: dict[str, Any], agreement: float) -> dict[str, float]:
    """Bring the ONNX file `model` to int8 in place; the share of rows that are called alike, and of its size.

    `source` is the directory of the trained version. Raises InvalidInput where it was not trained for this, WorkFailed
    where fewer rows than `agreement` are called as before.
    """
    values = _calibration(source, about)
    smaller = model.with_suffix(".int8.onnx")
    names = [output["name"] for output in outputs(about)]
    _quantise(model, smaller, values)
    before, after = (_session(file).run(names, {"input": values}) for file in (model, smaller))
    share = 1 - _otherwise(about, before, after) / len(values)
    if share < agreement:
        raise WorkFailed(
            f"in int8 the model calls {share:.1%} of {len(values)} rows as before (accepted: {agreement:.1%}); "
            "train it for longer with config.quantise: int8"
        )
    sizes = smaller.stat().st_size / model.stat().st_size
    smaller.replace(model)
    return {"int8_agreement": share, "int8_size_ratio": sizes}


def _calibration(source: Path, about: dict[str, Any]) -> NDArray[Any]:
    """As the service takes them: what was normalised for training is brought back."""
    try:
        inputs = load_file(str(source / CALIBRATION))["input"]
    except (FileNotFoundError, SafetensorError, KeyError):
        raise InvalidInput(
            "the model was not trained for eight bits", field="precision", accepted="float32, or config.quantise: int8"
        ) from None
    form = (-1, *(1,) * (inputs.ndim - 2))
    mean, std = (np.asarray(about["preprocessing"][name], np.float32).reshape(form) for name in ("mean", "std"))
    values = inputs * std + mean
    return np.rint(values).clip(0, 255).astype(np.uint8) if about["input"]["dtype"] == "uint8" else values


class Rows(CalibrationDataReader):  # type: ignore[misc]
    """The rows one by one."""

    def __init__(self, values: NDArray[Any]) -> None:
        self._rows: Iterator[dict[str, NDArray[Any]]] = ({"input": values[i : i + 1]} for i in range(len(values)))

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """None at the end."""
        return next(self._rows, None)


def _quantise(model: Path, target: Path, values: NDArray[Any]) -> None:
    """Weights by channel and symmetric, as training had them; what flows between layers by its least and greatest."""
    quantize_static(
        str(model),
        str(target),
        Rows(values),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(LAYERS),
        nodes_to_exclude=_left_out(model),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )


def _left_out(model: Path) -> list[str]:
    """The layers that training left as they are, and products of what are no weights."""
    graph = onnx.load(str(model), load_external_data=False).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [
        node.name
        for node in graph.node
        if node.op_type in LAYERS
        and (node.input[1] not in weights or node.input[1].rpartition(".")[0].rpartition(".")[2] == SKIPPED)
    ]


def _otherwise(about: dict[str, Any], before: list[Any], after: list[Any]) -> int:
    if about["task"] == detections.TASK:
        return detections.without_counterpart(before, after)
    return int((before[0].argmax(1) != after[0].argmax(1)).sum())


def _session(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
