"""Runs a ParallelPlan on torch.distributed: one technique a file, and `apply`, which puts them together."""

from sextant_parallel.runtime.apply import Runtime, apply
from sextant_parallel.runtime.mesh import Mesh

__all__ = ["Mesh", "Runtime", "apply"]
