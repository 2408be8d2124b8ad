"""Mixed precision as a run asks for it: bfloat16 where the device computes with it, float32 elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from sextant_parallel.world import agree
from sextant_planner.plan import Precision
from sextant_shared.contracts.specs import TrainConfig

FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What processors call it in /proc/cpuinfo."""


def precision_of(config: TrainConfig) -> Precision:
    """What the ranks compute in: the same on all, as rank 0 finds its device. Every rank calls it."""
    if config.precision == "float32":
        return Precision.FLOAT32
    if agree(has_bfloat16()):
        return Precision.BFLOAT16
    sys.stderr.write("this device has no instructions for bfloat16: the run computes in float32\n")
    return Precision.FLOAT32


def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the device has instructions for it."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    words = {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    return bool(words & FLAGS)


def full(outputs: Tensor) -> Tensor:
    """Outputs as losses and figures are reckoned from, whatever the model computed in."""
    return outputs.float() if isinstance(outputs, Tensor) and outputs.is_floating_point() else outputs
