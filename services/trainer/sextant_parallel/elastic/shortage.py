"""Memory that ran out: how it shows, and what is counted on after it did."""

from __future__ import annotations

import torch
from pydantic import Field

from sextant_planner.cluster import Cluster
from sextant_planner.record import Record
from sextant_planner.search.engine import Candidate

KEPT = 0.8
"""Share of what a plan was predicted to take, and could not have, that a device is said to have from then on."""
ALLOCATOR = "can't allocate memory"
ONE_DNN = ("could not create a primitive", "could not create a memory object")
"""What torch's allocator of host memory says in a RuntimeError, and all that oneDNN does; with more behind it, oneDNN's
first one is about what it does not support.
"""


class Allowance(Record):
    """What a device has for one model, as a run has found out."""

    memory_bytes: float = Field(gt=0)


class OutOfMemory(Exception):
    """A plan that was predicted to fit did not."""

    def __init__(self, candidate: Candidate) -> None:
        self.candidate = candidate
        predicted = candidate.prediction.memory.total / 1e9
        super().__init__(
            f"memory ran out under {candidate.plan.describe()}, for which {predicted:.2f} GB a device were predicted;"
            f" the next attempt plans for {self.allowance.memory_bytes / 1e9:.2f} GB"
        )

    @property
    def allowance(self) -> Allowance:
        """What to count on from now on."""
        return Allowance(memory_bytes=KEPT * self.candidate.prediction.memory.total)


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory could not be had. What the kernel kills for it says nothing."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    told = str(error)
    return isinstance(error, RuntimeError) and (ALLOCATOR in told or told.strip() in ONE_DNN)


def within(cluster: Cluster, allowance: Allowance) -> Cluster:
    """The cluster with no more memory a device than that."""
    devices = tuple(
        device.model_copy(update={"memory_bytes": min(device.memory_bytes, allowance.memory_bytes)})
        for device in cluster.devices
    )
    return cluster.model_copy(update={"devices": devices})
