"""The work of an `export` job: a trained model as ONNX, served values in, checked against the original."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from sextant_exporter import detections
from sextant_exporter.quantising import quantise
from sextant_exporter.serving import built_for, output_scale, outputs, sample, served_classes, wrap
from sextant_shared.artefacts import safe_path
from sextant_shared.contracts.specs import ExportSpec
from sextant_shared.errors import WorkFailed
from sextant_shared.execution import user_code
from sextant_shared.execution.workbench import Registration, Result, Workbench
from sextant_zoo import build
from sextant_zoo.own_code import build_from

OPSET = 18
TOKENIZER = "tokenizer.json"
BATCHES = (1, 2, 7, 32)
OIP_TYPE = {"uint8": "UINT8", "float32": "FP32"}


@dataclass(frozen=True, slots=True)
class Parity:
    """How far the exported model is from the original: the largest difference, and rows that are called otherwise.

    Differences of forecasts are counted in deviations of their column.
    """

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
    served = load_served(Path(source.path or ""), about, _open_code(bench, about))
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
    if spec.precision == "int8":
        bench.progress(0.8, "quantising")
        figures |= quantise(target, Path(source.path or ""), about, spec.agreement)
    described = _describe(about, source.model_dump(exclude={"path", "meta"}), figures)
    described["precision"] = spec.precision
    (bench.out / "model.json").write_text(json.dumps(described, indent=1, sort_keys=True))
    (bench.out / "parity.json").write_text(json.dumps({**figures, "tolerance": spec.tolerance}, sort_keys=True))
    beside = copy_beside(Path(source.path or ""), about, bench.out)
    name = spec.register_as or bench.order.name
    registration = Registration(
        type="model", name=name, output="model", files=["model.json", "model.onnx", *beside], meta=described
    )
    return Result(outputs={"parity": figures}, registers=[registration])


def _open_code(bench: Workbench, about: dict[str, Any]) -> Path | None:
    """Unpack the code that the model was trained with, if it is a user's own, and confine this process for good."""
    kept = about["architecture"].get("code")
    if kept is None:
        return None
    directory = Path(bench.order.input("model").path or "")
    archive = directory / str(safe_path(kept["file"]))
    user_code.verify(archive, kept["sha256"])
    root = user_code.unpack(archive, bench.directory / "code", bench.order.user_code)
    user_code.settle(bench.directory, [directory], [], [bench.descriptor])
    return root


def copy_beside(directory: Path, about: dict[str, Any], out: Path) -> list[str]:
    """Copy what an exported version needs beside its model; the names."""
    tokenizer = about["preprocessing"].get("tokenizer")
    if tokenizer is None:
        return []
    (out / TOKENIZER).write_bytes((directory / TOKENIZER).read_bytes())
    return [TOKENIZER]


def load_served(directory: Path, about: dict[str, Any], code: Path | None = None) -> nn.Module:
    """The trained model of a version's directory, with its preprocessing, in evaluation mode.

    `code` is where a user's own code lies that builds it, if any does.
    """
    architecture = about["architecture"]
    shape, outputs = built_for(about)
    if code is not None:
        model = build_from(code, architecture["zoo"], architecture["config"], shape, outputs)
    else:
        model = build(architecture["zoo"], architecture["config"], shape, outputs)
    try:
        model.load_state_dict(load_file(str(directory / "model.safetensors")))
    except SafetensorError as error:
        raise WorkFailed(f"the model's tensors cannot be read: {error}") from None
    return wrap(model, about).eval()


def write_onnx(served: nn.Module, about: dict[str, Any], target: Path) -> None:
    """One file with the weights inside and a free batch dimension, checked by onnx."""
    values = torch.from_numpy(sample(about, 2, np.random.default_rng(0)))
    batch = torch.export.Dim("batch", min=1, max=65_536)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            served,
            (values,),
            input_names=["input"],
            output_names=[output["name"] for output in outputs(about)],
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


def check_parity(served: nn.Module, about: dict[str, Any], onnx_file: Path) -> Parity:
    """Run the same batches of several sizes through both."""
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    worst, disagreements = 0.0, 0
    for rows in BATCHES:
        values = sample(about, rows, rng)
        got = session.run([output["name"] for output in outputs(about)], {"input": values})
        if not all(np.isfinite(part).all() for part in got):
            raise WorkFailed("the model answers NaN or infinity: its weights are broken, or too large for float32")
        difference, otherwise = _differences(served, about, values, got)
        worst, disagreements = max(worst, difference), disagreements + otherwise
    return Parity(worst, disagreements, sum(BATCHES))


def _differences(served: nn.Module, about: dict[str, Any], values: Any, got: Sequence[Any]) -> tuple[float, int]:
    """The largest difference, and the rows that are called otherwise."""
    if about["task"] == detections.TASK:
        return detections.differences(served, torch.from_numpy(values), got)
    with torch.no_grad():
        expected = served(torch.from_numpy(values)).numpy()
    if not np.isfinite(expected).all():
        raise WorkFailed("the model answers NaN or infinity: its weights are broken, or too large for float32")
    difference = float((np.abs(got[0] - expected) / output_scale(about)).max())
    return difference, int((got[0].argmax(1) != expected.argmax(1)).sum()) if about["classes"] else 0


def _describe(about: dict[str, Any], source: dict[str, Any], parity: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": "onnx",
        **_inputs(about),
        "outputs": outputs(about),
        "task": about["task"],
        "classes": served_classes(about),
        **{key: about[key] for key in ("columns", "window", "threshold", "level", "out_of_scope") if key in about},
        "metrics": about["metrics"],
        "parity": parity,
        "source": source,
    }


def _inputs(about: dict[str, Any]) -> dict[str, Any]:
    """What the service takes: values as the dataset has them, or texts, which it brings to tokens itself."""
    shape, preprocessing = about["input"]["shape"], about["preprocessing"]
    if "tokenizer" in preprocessing:
        tokenizer = {"file": TOKENIZER, "length": shape[0], "padding": preprocessing["padding"]}
        return {"inputs": [{"name": "input", "datatype": "BYTES", "shape": [-1]}], "tokenizer": tokenizer}
    datatype = OIP_TYPE[about["input"]["dtype"]]
    return {"inputs": [{"name": "input", "datatype": datatype, "shape": [-1, *shape]}]}
