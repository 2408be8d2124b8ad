"""Layers of which each rank of a mesh has a part: the classes that work on one, in place of a model's own.

The parameters are DTensors all the same, so that checkpoints and FSDP know their whole shape; the work is done on this
rank's tensors. DTensor's operators would do it too, at several times the cost where a layer is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor


def local(tensor: Tensor | None) -> Any:
    """This rank's part of a DTensor; other tensors, and None, as they are."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def as_part(module: nn.Module, kind: Any, dims: Mapping[str, int], mesh: DeviceMesh, **more: object) -> nn.Module:
    """`module` as one of `kind`, with the attributes `mesh` and `more`; `dims` as for `distribute`."""
    made: Any = kind.__new__(kind)
    made.__dict__.update(module.__dict__)
    made.__dict__.update(more, mesh=mesh)
    distribute(made, dims, mesh)
    split: nn.Module = made
    return split


def distribute(module: nn.Module, dims: Mapping[str, int], mesh: DeviceMesh) -> None:
    """Make this rank's tensors DTensors on `mesh`: split along the named dimensions, the other parameters whole."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        placement = Shard(dims[name]) if name in dims else Replicate()
        split = distribute_tensor(parameter.detach(), mesh, [placement], src_data_rank=None)
        setattr(module, name, nn.Parameter(split, parameter.requires_grad))
    for name, buffer in list(module.named_buffers(recurse=False)):
        if name in dims:
            setattr(module, name, distribute_tensor(buffer, mesh, [Shard(dims[name])], src_data_rank=None))
