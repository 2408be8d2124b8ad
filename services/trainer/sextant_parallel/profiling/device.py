"""The device at hand: what its matrix products and its memory reach."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch

from sextant_planner.cluster import Device
from sextant_planner.plan import Precision

WIDTHS = (64, 128, 256, 512, 1024)


def measure_device(name: str = "this-device") -> Device:
    """The device that torch computes on, with the threads that it is set to, from a second of measurements.

    The peak is what the largest product reaches, so that the ceiling is 1; the half-size follows from the small ones.
    """
    where = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    reached = {width: _flops(width, torch.float32, where) for width in WIDTHS}
    peak = max(reached.values())
    half = min((width for width in WIDTHS if reached[width] >= peak / 2), default=WIDTHS[0])
    kinds: dict[str, float] = {Precision.FLOAT32.value: peak, Precision.BFLOAT16.value: peak}
    if where.type == "cuda":
        kinds[Precision.BFLOAT16.value] = _flops(4096, torch.bfloat16, where)
        memory = float(torch.cuda.get_device_properties(where).total_memory)
    else:
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return Device(
        name=name,
        flops=kinds,
        memory_bytes=memory,
        memory_bandwidth=_bandwidth(where),
        product_half_inner=half / 2,
        kernel_s=_least(where),
        source="measured",
    )


def _flops(width: int, dtype: torch.dtype, where: torch.device) -> float:
    matrix = torch.randn(width, width, dtype=dtype, device=where)
    return 2 * width**3 / _seconds(lambda: matrix @ matrix, where)


def _bandwidth(where: torch.device) -> float:
    data = torch.zeros(1 << 24, device=where)
    return 8 * data.numel() / _seconds(lambda: data.add_(1.0), where)


def _least(where: torch.device) -> float:
    data = torch.zeros(1, device=where)
    return _seconds(lambda: data.add_(1.0), where)


def _seconds(action: Callable[[], object], where: torch.device, budget_s: float = 0.1) -> float:
    action()
    _wait(where)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < budget_s:
        action()
        count += 1
        if where.type == "cuda" and count % 16 == 0:
            _wait(where)
    _wait(where)
    return (time.perf_counter() - began) / count


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)
