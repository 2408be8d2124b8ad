"""The machine that a benchmark runs on, as the planner sees it."""

from __future__ import annotations

import torch

from sextant_parallel.profiling.device import measure_device
from sextant_planner.cluster import Cluster, Link

DEVICE = "this-device"


def one_device() -> Cluster:
    """The processor with the threads that torch is set to, as it was just measured."""
    alone = Link(name="none", size=1, bandwidth=1.0)
    name = f"{torch.get_num_threads()} threads of this machine"
    return Cluster(name=name, devices=(measure_device(DEVICE),), layout=(0,), links=(alone,))
