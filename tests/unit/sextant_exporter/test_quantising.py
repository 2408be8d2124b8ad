"""An export in eight bits, of a model that brings inputs to calibrate on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from tests.unit.sextant_exporter.conftest import MakeBench, Trained

from sextant_exporter import exporting, serving
from sextant_shared.errors import InvalidInput, WorkFailed


@pytest.fixture
def trained(exported: Any, tmp_path: Path) -> Trained:
    """The small network for images, with 16 inputs to calibrate on."""
    given: Trained = exported("cnn").trained
    directory = tmp_path / "trained"
    directory.mkdir()
    for path in given.directory.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    torch.manual_seed(0)
    save_file({"input": torch.randn(16, 2, 8, 8)}, str(directory / "calibration.safetensors"))
    return Trained(directory, given.about, given.model)


def test_its_layers_are_int8_and_its_answers_near(trained: Trained, exported: Any, make_bench: MakeBench) -> None:
    bench = make_bench("export", {"model": trained.record}, model={"model": "net@2"}, precision="int8", agreement=0.5)
    figures = exporting.export(bench).outputs["parity"]
    assert figures["int8_agreement"] >= 0.5
    graph = onnx.load(str(bench.out / "model.onnx")).graph
    kinds = {tensor.data_type for tensor in graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.INT8}
    values = serving.sample(trained.about, 64, np.random.default_rng(0))
    whole, eight = (
        onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"]).run(
            ["logits"], {"input": values}
        )[0]
        for out in (exported("cnn").out, bench.out)
    )
    # Eight bits have steps of 0.4 % of a range; three layers of them add up.
    assert 0 < np.abs(eight - whole).max() < 0.1 * np.abs(whole).max()


def test_a_model_that_was_not_trained_for_it_is_refused(exported: Any, make_bench: MakeBench) -> None:
    record = exported("cnn").trained.record
    bench = make_bench("export", {"model": record}, model={"model": "net@2"}, precision="int8")
    with pytest.raises(InvalidInput, match="not trained for eight bits") as caught:
        exporting.export(bench)
    assert caught.value.field == "precision"


def test_one_that_calls_rows_otherwise_does_not_pass(
    trained: Trained, make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sextant_exporter import quantising

    bench = make_bench("export", {"model": trained.record}, model={"model": "net@2"}, precision="int8")
    monkeypatch.setattr(quantising, "_otherwise", lambda *_: 1)
    with pytest.raises(WorkFailed, match=r"93\.8% of 16 rows as before"):
        exporting.export(bench)
