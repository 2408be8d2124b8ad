"""The work of an `export` job: a trained model as ONNX, served values in, checked against the original."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sextant_shared.contracts.specs import ExportSpec
from sextant_shared.errors import WorkFailed
from sextant_shared.execution.workbench import Registration, Result, Workbench
from sextant_zoo import build

OPSET = 18
BATCHES = (1, 2, 7, 32)
OIP_TYPE = {"uint8": "UINT8", "float32": "FP32"}
TORCH_TYPE = {"uint8": torch.uint8, "float32": torch.float32}


class Served(nn.Module):
    """The model with its preprocessing: takes values as the dataset stores them."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float], dimensions: int) -> None:
        super().__init__()
        form = (-1, *(1,) * (dimensions - 1))
        self.model = model
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(form))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(form))

    def forward(self, values: Tensor) -> Tensor:
        """(batch, *shape) as stored -> (batch, classes) logits."""
        logits: Tensor = self.model((values.to(torch.float32) - self.mean) / self.std)
        return logits


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the exported model is from the original: the largest difference of a logit, and rows called otherwise."""

    max_abs_diff: float
    disagreements: int
    rows: int


def export(bench: Workbench) -> Result:
    """Export, check parity, and register. Raises WorkFailed where the difference is over the tolerance."""
    spec = ExportSpec.model_validate(bench.order.spec, strict=False)
    source = bench.order.input("model")
    about = json.loads((Path(source.path or "") / "model.json").read_text())
    if about.get("format") != "safetensors":
        raise WorkFailed(f"model {source.name}@{source.version} is {about.get('format')}; a trained model is needed")
    served = load_served(Path(source.path or ""), about)
    bench.progress(0.3, "exporting")
    target = bench.out / "model.onnx"
    write_onnx(served, about, target)
    bench.progress(0.7, "checking parity")
    parity = check_parity(served, about, target)
    figures = {"max_abs_diff": parity.max_abs_diff, "disagreements": parity.disagreements, "rows": parity.rows}
    if parity.max_abs_diff > spec.tolerance or parity.disagreements:
        raise WorkFailed(
            f"the exported model differs by up to {parity.max_abs_diff:.3g} (accepted: {spec.tolerance:g}) and calls "
            f"{parity.disagreements} of {parity.rows} rows otherwise"
        )
    described = _describe(about, source.model_dump(exclude={"path", "meta"}), figures)
    (bench.out / "model.json").write_text(json.dumps(described, indent=1, sort_keys=True))
    (bench.out / "parity.json").write_text(json.dumps({**figures, "tolerance": spec.tolerance}, sort_keys=True))
    name = spec.register_as or bench.order.name
    registration = Registration(
        type="model", name=name, output="model", files=["model.json", "model.onnx"], meta=described
    )
    return Result(outputs={"parity": figures}, registers=[registration])


def load_served(directory: Path, about: dict[str, Any]) -> Served:
    """The trained model of a version's directory, with its preprocessing, in evaluation mode."""
    architecture, shape = about["architecture"], tuple(about["input"]["shape"])
    model = build(architecture["zoo"], architecture["config"], shape, len(about["classes"]))
    model.load_state_dict(load_file(str(directory / "model.safetensors")))
    preprocessing = about["preprocessing"]
    return Served(model, preprocessing["mean"], preprocessing["std"], len(shape)).eval()


def write_onnx(served: Served, about: dict[str, Any], target: Path) -> None:
    """One file with the weights inside and a free batch dimension, checked by onnx."""
    values = torch.from_numpy(sample(about, 2, np.random.default_rng(0)))
    batch = torch.export.Dim("batch", min=1, max=65_536)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            served,
            (values,),
            input_names=["input"],
            output_names=["logits"],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes={"values": {0: batch}},
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise WorkFailed("the exporter made no program")
    program.save(str(target), external_data=False)
    onnx.checker.check_model(str(target), full_check=True)


def sample(about: dict[str, Any], rows: int, rng: np.random.Generator) -> Any:
    """Random values (rows, *shape) of the stored type, in the range that the statistics suggest."""
    shape = (rows, *about["input"]["shape"])
    mean, std = about["preprocessing"]["mean"], about["preprocessing"]["std"]
    form = (-1, *(1,) * (len(shape) - 2))
    drawn = rng.normal(np.reshape(mean, form), 2 * np.reshape(std, form), shape)
    if about["input"]["dtype"] == "uint8":
        return np.clip(drawn, 0, 255).astype(np.uint8)
    return drawn.astype(np.float32)


def check_parity(served: Served, about: dict[str, Any], onnx_file: Path) -> Parity:
    """Run the same batches of several sizes through both."""
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    worst, disagreements = 0.0, 0
    for rows in BATCHES:
        values = sample(about, rows, rng)
        with torch.no_grad():
            expected = served(torch.from_numpy(values)).numpy()
        got = session.run(["logits"], {"input": values})[0]
        if not (np.isfinite(expected).all() and np.isfinite(got).all()):
            raise WorkFailed("the model answers NaN or infinity: its weights are broken, or too large for float32")
        worst = max(worst, float(np.abs(got - expected).max()))
        disagreements += int((got.argmax(1) != expected.argmax(1)).sum())
    return Parity(worst, disagreements, sum(BATCHES))


def _describe(about: dict[str, Any], source: dict[str, Any], parity: dict[str, Any]) -> dict[str, Any]:
    shape, dtype = about["input"]["shape"], about["input"]["dtype"]
    return {
        "format": "onnx",
        "inputs": [{"name": "input", "datatype": OIP_TYPE[dtype], "shape": [-1, *shape]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, len(about["classes"])]}],
        "task": about["task"],
        "classes": about["classes"],
        "metrics": about["metrics"],
        "parity": parity,
        "source": source,
    }
