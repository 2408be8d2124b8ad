"""What the zoo says of its export: each architecture as ONNX, with the preprocessing of its task, within tolerance."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.sextant_zoo import tiny

from sextant_exporter.exporting import check_parity, write_onnx
from sextant_exporter.serving import wrap
from sextant_zoo import build, check, describe, names

TINY = {**tiny.IMAGES, **tiny.TEXTS, **tiny.OTHERS}
EXPORTED = [name for name in names() if "onnx" in describe(name).exports]
QUICK = {"dlinear", "ft-transformer", "mobilenet-v3-small"}
# float32 sums of some hundred terms in another order, over logits of the order of 1.
TOLERANCE = 1e-5


def described(name: str) -> dict[str, Any]:
    """What model.json says of a tiny one."""
    config, shape, outputs, _ = TINY[name]
    entry = describe(name)
    about: dict[str, Any] = {
        "task": entry.tasks[0],
        "architecture": {"zoo": name, "config": config},
        "input": {"name": "input", "shape": list(shape), "dtype": "float32"},
        "classes": [str(number) for number in range(outputs)],
    }
    match entry.modality:
        case "series":
            figures = {"mean": [3.0] * shape[1], "std": [2.0] * shape[1]}
            output = {"name": "forecast", "shape": [outputs, shape[1]]}
            return {**about, "classes": [], "output": output, "preprocessing": figures}
        case "text":
            about["input"]["dtype"] = "int64"
            padding = check(name, config).model_dump().get("padding", 0)
            return {**about, "preprocessing": {"vocabulary": 64, "padding": padding}}
        case "image":
            channels = shape[0]
            about["input"]["dtype"] = "uint8"
            return {**about, "preprocessing": {"mean": [120.0] * channels, "std": [60.0] * channels}}
    return {**about, "preprocessing": {"mean": [3.0] * shape[0], "std": [2.0] * shape[0]}}


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in EXPORTED],
)
def test_it_is_exported_and_answers_like_the_original(name: str, tmp_path: Path) -> None:
    config, shape, outputs, _ = TINY[name]
    torch.manual_seed(0)
    model = build(name, config, shape, outputs)
    for key, buffer in model.named_buffers():
        # Running statistics as training leaves them: not those of a fresh model, which fold away.
        if key.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    about = described(name)
    served = wrap(model, about).eval()
    write_onnx(served, about, tmp_path / "model.onnx")
    parity = check_parity(served, about, tmp_path / "model.onnx")
    assert parity.max_abs_diff < TOLERANCE
    assert parity.disagreements == 0
