"""A trained model as ONNX: the same answers, whatever the batch, and a gate for those that are not."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from sextant_exporter import exporting, serving
from sextant_shared.errors import WorkFailed
from sextant_shared.execution.workbench import Workbench

# float32 sums of a few hundred terms in another order: about 1e-6 of logits of the order of 1.
TOLERANCE = 1e-5


def source(trained: Any) -> dict[str, Any]:
    """A trained model as a resolved input."""
    return {"model": trained.record}


def torch_logits(trained: Any, values: NDArray[Any]) -> NDArray[np.float32]:
    """What the model answers for stored values, normalised and calibrated here by hand."""
    form = (1, -1, *(1,) * (values.ndim - 2))
    mean, std = (np.reshape(trained.about["preprocessing"][k], form).astype(np.float32) for k in ("mean", "std"))
    with torch.no_grad():
        answer: NDArray[np.float32] = trained.model(torch.from_numpy((values.astype(np.float32) - mean) / std)).numpy()
    return answer / np.float32(trained.about.get("temperature", 1.0))


def onnx_logits(path: Path, values: NDArray[Any]) -> NDArray[np.float32]:
    """What the exported model answers."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run(["logits"], {"input": values})[0]
    return answer


@pytest.mark.parametrize("name", ["cnn", "mlp", "table"])
def test_the_exported_model_answers_like_the_original_whatever_the_batch(name: str, exported: Any) -> None:
    done = exported(name)
    for rows in (1, 3, 17):
        values = serving.sample(done.trained.about, rows, np.random.default_rng(rows))
        logits = onnx_logits(done.out / "model.onnx", values)
        assert logits.shape == (rows, 3)
        assert np.abs(logits - torch_logits(done.trained, values)).max() < TOLERANCE
    assert done.result.outputs["parity"]["disagreements"] == 0
    assert done.result.outputs["parity"]["max_abs_diff"] < TOLERANCE


def test_logits_are_divided_by_the_temperature_of_the_calibration(exported: Any) -> None:
    trained = exported("table").trained
    assert trained.about["temperature"] == 2.5
    rows = torch.randn(3, 5) * 30 + 20
    mean, std = (torch.tensor(trained.about["preprocessing"][key]) for key in ("mean", "std"))
    with torch.no_grad():
        plain = trained.model((rows - mean) / std)
        served = exporting.load_served(trained.directory, trained.about)(rows)
    torch.testing.assert_close(served, plain / 2.5)


def test_what_is_registered_says_how_to_serve_it(exported: Any) -> None:
    done = exported("cnn")
    (registered,) = done.result.registers
    assert (registered.type, registered.name, registered.files) == ("model", "served", ["model.json", "model.onnx"])
    about = json.loads((done.out / "model.json").read_text())
    assert about == registered.meta
    assert about["inputs"] == [{"name": "input", "datatype": "UINT8", "shape": [-1, 2, 8, 8]}]
    assert about["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}]
    assert about["classes"] == ["a", "b", "c"]
    assert (about["source"]["id"], about["source"]["version"]) == ("m", 2)


def test_the_file_stands_alone_with_a_free_batch_and_the_stored_type(exported: Any) -> None:
    done = exported("cnn")
    graph = onnx.load(done.out / "model.onnx", load_external_data=False).graph
    assert not any(tensor.external_data for tensor in graph.initializer)
    tensor = graph.input[0].type.tensor_type
    assert tensor.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in tensor.shape.dim] == [0, 2, 8, 8]
    assert tensor.shape.dim[0].dim_param
    assert sorted(path.name for path in done.out.iterdir()) == ["model.json", "model.onnx", "parity.json"]


def damaged(exported: Path, target: Path, size: float) -> None:
    """A copy of the exported model that adds `size` to the logit of the first class."""
    model = onnx.load(exported)
    (bias,) = (tensor for tensor in model.graph.initializer if list(tensor.dims) == [3])
    values = onnx.numpy_helper.to_array(bias).copy()
    values[0] += size
    bias.CopyFrom(onnx.numpy_helper.from_array(values, bias.name))
    onnx.save(model, target)


def exports_damaged(monkeypatch: pytest.MonkeyPatch, whole: Path, size: float) -> None:
    """From here on, what is exported is damaged."""
    monkeypatch.setattr(exporting, "write_onnx", lambda served, about, target: damaged(whole, target, size))


@pytest.mark.parametrize(("size", "tolerance"), [(1e-3, 1e-4), (5.0, 1.0)])
def test_a_model_that_answers_otherwise_is_refused_with_the_difference(
    exported: Any, make_bench: Any, monkeypatch: pytest.MonkeyPatch, size: float, tolerance: float
) -> None:
    done = exported("mlp")
    exports_damaged(monkeypatch, done.out / "model.onnx", size)
    bench: Workbench = make_bench("export", source(done.trained), model={"model": "net@2"}, tolerance=tolerance)
    with pytest.raises(WorkFailed, match=rf"differs by up to {size:g}.*accepted: {tolerance:g}"):
        exporting.export(bench)
    assert not (bench.out / "model.json").exists()


def test_a_model_within_the_tolerance_that_calls_a_row_otherwise_is_refused(
    exported: Any, make_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = exported("mlp")
    exports_damaged(monkeypatch, done.out / "model.onnx", 0.9)
    bench: Workbench = make_bench("export", source(done.trained), model={"model": "net@2"}, tolerance=1.0)
    with pytest.raises(WorkFailed, match=rf"calls [1-9][0-9]* of {sum(exporting.BATCHES)} rows otherwise"):
        exporting.export(bench)


def test_the_gate_counts_every_row_that_is_called_otherwise(exported: Any, tmp_path: Path) -> None:
    done = exported("mlp")
    damaged(done.out / "model.onnx", tmp_path / "model.onnx", 100.0)
    about = done.trained.about
    original = exporting.load_served(done.trained.directory, about)
    parity = exporting.check_parity(original, about, tmp_path / "model.onnx")
    # 100 is added to a logit of the order of 1 in float32, which costs it about 4e-6.
    assert parity.max_abs_diff == pytest.approx(100.0, abs=1e-4)
    assert parity.rows == sum(exporting.BATCHES)
    # The damaged model says the first class always: all rows differ that the original does not call so.
    rng = np.random.default_rng(1)
    called = np.concatenate(
        [torch_logits(done.trained, serving.sample(about, n, rng)).argmax(1) for n in exporting.BATCHES]
    )
    assert parity.disagreements == (called != 0).sum() > 0


def test_a_model_that_answers_nan_is_refused(
    exported: Any, make_bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = exported("mlp")
    weights = load_file(str(done.trained.directory / "model.safetensors"))
    (bias,) = (name for name, tensor in weights.items() if tensor.shape == (3,))
    weights[bias][0] = float("nan")
    shutil.copytree(done.trained.directory, tmp_path / "broken")
    save_file(weights, str(tmp_path / "broken" / "model.safetensors"))
    exports_damaged(monkeypatch, done.out / "model.onnx", float("nan"))
    broken = source(replace(done.trained, directory=tmp_path / "broken"))
    with pytest.raises(WorkFailed, match="answers NaN or infinity"):
        exporting.export(make_bench("export", broken, model={"model": "net@2"}))


@pytest.mark.parametrize("size", [float("nan"), float("inf")])
def test_an_export_that_alone_answers_no_number_is_refused(
    exported: Any, make_bench: Any, monkeypatch: pytest.MonkeyPatch, size: float
) -> None:
    done = exported("mlp")
    exports_damaged(monkeypatch, done.out / "model.onnx", size)
    with pytest.raises(WorkFailed, match="answers NaN or infinity"):
        exporting.export(make_bench("export", source(done.trained), model={"model": "net@2"}, tolerance=1.0))


def test_a_model_that_is_exported_already_is_refused_by_name(make_bench: Any, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"format": "onnx"}))
    already = {"id": "m", "name": "net", "version": 2, "digest": "x", "path": str(tmp_path)}
    bench: Workbench = make_bench("export", {"model": already}, model={"model": "net@2"})
    with pytest.raises(WorkFailed, match="net@2 is onnx"):
        exporting.export(bench)
