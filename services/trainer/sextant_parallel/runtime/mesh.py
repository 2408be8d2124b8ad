"""The devices of a plan as a mesh: one axis for each way of splitting, in the order of `sextant_planner.plan.AXES`."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from sextant_planner.plan import AXES, ParallelPlan
from sextant_planner.record import PlanningError


@dataclass(frozen=True, slots=True)
class Mesh:
    """This rank's place in the plan. Axes of degree 1 have no DeviceMesh and no group, and cost nothing."""

    plan: ParallelPlan
    device: torch.device
    root: DeviceMesh | None

    def degree(self, axis: str) -> int:
        """The number of ranks along an axis."""
        degree: int = getattr(self.plan, axis)
        return degree

    def axis(self, axis: str) -> DeviceMesh | None:
        """The one-dimensional mesh of an axis; None where it has one rank."""
        return self.root[axis] if self.root is not None and self.degree(axis) > 1 else None

    def group(self, axis: str) -> dist.ProcessGroup | None:
        """The ranks that differ from this one along an axis alone; None where there is no other."""
        mesh = self.axis(axis)
        return None if mesh is None else mesh.get_group()

    def rank(self, axis: str) -> int:
        """This rank's coordinate."""
        mesh = self.axis(axis)
        return 0 if mesh is None else mesh.get_local_rank()

    @property
    def dp_rank(self) -> int:
        """Which share of the batch is this rank's: its index in `plan.shares`."""
        return self.rank("dp_replicate") * self.plan.dp_shard + self.rank("dp_shard")

    def groups(self, *axes: str) -> tuple[dist.ProcessGroup, ...]:
        """The groups of those of the axes that have more than one rank."""
        return tuple(group for axis in axes if (group := self.group(axis)) is not None)


def build_mesh(plan: ParallelPlan, device: torch.device | None = None) -> Mesh:
    """The mesh of a plan; every rank of the world must call it. Raises PlanningError for a world of another size.

    Sub-groups are made for the axes that have more than one rank. They take over the world's timeout: torch would give
    them half an hour, for which the ranks that are left after a failure would hang.
    """
    plan.require_world(dist.get_world_size() if dist.is_initialized() else 1)
    device = device or default_device()
    axes = [axis for axis in AXES if getattr(plan, axis) > 1]
    if not axes:
        return Mesh(plan, device, None)
    root = init_device_mesh(device.type, tuple(getattr(plan, axis) for axis in axes), mesh_dim_names=tuple(axes))
    _take_over_timeout(root, axes)
    return Mesh(plan, device, root)


def default_device() -> torch.device:
    """The current CUDA device where there is one, and the processor else."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else torch.device("cpu")


def require_equal(values: torch.Tensor, mesh: Mesh, what: str) -> None:
    """Raises PlanningError where `values` (a float64 vector) are not the same on all ranks."""
    if mesh.root is None:
        return
    least, most = values.clone(), values.clone()
    dist.all_reduce(least, dist.ReduceOp.MIN)
    dist.all_reduce(most, dist.ReduceOp.MAX)
    if not torch.equal(least, most):
        raise PlanningError(f"{what} are not the same on all ranks; seed every rank alike before it builds the model")


def _take_over_timeout(root: DeviceMesh, axes: list[str]) -> None:
    options = getattr(dist.distributed_c10d._get_default_group(), "_timeout", None)  # noqa: SLF001 - no public getter
    if options is None:
        return
    for axis in axes:
        dist.distributed_c10d._set_pg_timeout(options, root[axis].get_group())  # noqa: SLF001 - no public setter
