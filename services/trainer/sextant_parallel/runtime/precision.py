"""Mixed precision: float32 master weights and optimizer states, and bfloat16 where a plan computes in it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from sextant_planner.plan import ParallelPlan, Precision

Carry = Tensor | tuple[Tensor, ...]


def boundary_type(plan: ParallelPlan) -> torch.dtype | None:
    """The type of what one stage sends to the next, where it is not the model's own."""
    return torch.bfloat16 if plan.precision is Precision.BFLOAT16 else None


def policy(plan: ParallelPlan) -> MixedPrecisionPolicy:
    """For FSDP2: gathers and computes in the plan's type, reduces gradients in float32."""
    if plan.precision is Precision.FLOAT32:
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)


def compute_in(module: nn.Module, plan: ParallelPlan, device: torch.device) -> None:
    """Run a module that is not FSDP's under autocast, which casts weights at each matrix product."""
    if plan.precision is Precision.FLOAT32:
        return
    forward = module.forward

    def cast(*args: Any) -> Any:
        with torch.autocast(device.type, torch.bfloat16):
            return forward(*args)

    module.forward = cast


def send_as(module: nn.Module, kind: torch.dtype | None) -> None:
    """Cast what a stage hands on, so that the receiver's buffers fit."""
    if kind is None:
        return

    def cast(_module: nn.Module, _args: Any, out: Carry) -> Carry:
        if isinstance(out, tuple):
            return tuple(part.to(kind) for part in out)
        return out.to(kind)

    module.register_forward_hook(cast)
