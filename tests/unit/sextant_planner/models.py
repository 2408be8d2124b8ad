"""Small profiles for the planner's tests."""

from __future__ import annotations

from sextant_planner.cluster import Cluster, Device, Link
from sextant_planner.model import BlockProfile, ModelProfile, TensorSplit

TFLOP = 1e12


def device(memory_bytes: float = 16e9, name: str = "unit") -> Device:
    """One TFLOP/s, one TB/s."""
    return Device(
        name=name,
        flops={"float32": TFLOP, "bfloat16": 2 * TFLOP},
        memory_bytes=memory_bytes,
        memory_bandwidth=1e12,
    )


def cluster(
    size: int, *, memory_bytes: float = 16e9, bandwidth: float = 1e9, speeds: tuple[float, ...] = ()
) -> Cluster:
    """`size` such devices, all joined by one link."""
    link = Link(name="wire", size=size, bandwidth=bandwidth)
    return Cluster(
        name=f"{size} units", devices=(device(memory_bytes),), layout=(0,) * size, links=(link,), speeds=speeds
    )


def chain(
    seconds: list[float], *, parameters: int = 1000, activation_bytes: float = 1e6, tp_limit: int | None = None
) -> ModelProfile:
    """Blocks that take so long a sample forward, and twice as long backward, on the device above."""
    split = TensorSplit(limit=tp_limit, reduce_bytes=1e3) if tp_limit else None
    return ModelProfile(
        name="chain",
        blocks=tuple(
            BlockProfile(
                name=f"block{number}",
                kind="block",
                parameters=parameters,
                activation_bytes=activation_bytes,
                output_bytes=1e3,
                forward_s={"unit": ((1.0, each),)},
                backward_s={"unit": ((1.0, 2 * each),)},
                tensor=split,
            )
            for number, each in enumerate(seconds)
        ),
    )
