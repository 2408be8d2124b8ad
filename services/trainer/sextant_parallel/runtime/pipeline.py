"""Pipeline parallelism on torch.distributed.pipelining: GPipe, 1F1B, and the interleaved and zero-bubble schedules.

Sources: Huang et al., 2019 (GPipe); Narayanan et al., 2019 and 2021 (1F1B, interleaved); Qi et al., 2023 (zero bubble).
Shapes of what passes between stages are found once without memory, on the meta device, and given to torch: its own way
runs the stages on made-up data, which would disturb running statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleInterleavedZeroBubble,
)

from sextant_parallel.runtime.chain import Carry, boundaries, sequence_of
from sextant_parallel.runtime.collectives import contiguous_gradient
from sextant_parallel.runtime.mesh import Mesh
from sextant_parallel.runtime.precision import boundary_type
from sextant_planner.plan import ParallelPlan, Schedule, Sharding
from sextant_planner.record import PlanningError

Loss = Callable[[Tensor, Tensor], Tensor]
CONTEXT_PARTED = ("split", "tokens")


class Pipeline:
    """This rank's stages, and the schedules for each shape of input that has come."""

    def __init__(
        self,
        parts: list[nn.Module],
        ranges: tuple[tuple[int, int], ...],
        skeleton: list[nn.Module],
        mesh: Mesh,
    ) -> None:
        self._parts, self._ranges, self._skeleton, self._mesh = parts, ranges, skeleton, mesh
        self._schedules: dict[tuple[int, ...], Any] = {}
        self._loss: Loss | None = None
        if mesh.plan.schedule is Schedule.ZERO_BUBBLE:
            for part in parts:
                part.register_forward_pre_hook(_sendable)
                part.register_forward_hook(_detachable)

    @property
    def first(self) -> bool:
        """Whether this rank has the first stage, and takes the inputs."""
        return self._mesh.rank("pp") == 0

    @property
    def last(self) -> bool:
        """Whether this rank has the last stage, and knows the loss."""
        return self._mesh.rank("pp") == self._mesh.plan.pp - 1

    def backward(self, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
        """Forward and backward passes of all micro-batches; the sum of their losses, zero but on the last stage."""
        return self._run("step", inputs, targets, loss)

    def evaluate(self, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
        """The forward passes alone; the sum of what `loss` gives, of any shape, zero but on the last stage."""
        total = self._run("eval", inputs, targets, loss)
        shape = [total.shape]
        group = self._mesh.group("pp")
        dist.broadcast_object_list(shape, group=group, group_src=self._mesh.plan.pp - 1)
        return total.new_zeros(shape[0]) if total.shape != shape[0] else total

    def _run(self, how: str, inputs: Tensor, targets: Tensor, loss: Loss) -> Tensor:
        self._loss = loss
        schedule = self._schedule(inputs)
        self._gather()
        losses: list[Tensor] = []
        arguments = (inputs,) if self.first else ()
        run = getattr(schedule, how)
        run(*arguments, target=targets if self.last else None, losses=losses, return_outputs=False)
        if not losses:
            return torch.zeros((), device=self._mesh.device)
        return torch.stack([value.detach() for value in losses]).sum(0)

    def _gather(self) -> None:
        """Begin to gather shards that are kept for the whole step on all stages at once: each would else begin when the
        first micro-batch comes, one stage after the other. Schedules of several stages a rank do it themselves."""
        plan = self._mesh.plan
        if plan.sharding is Sharding.ZERO3 or plan.schedule not in (Schedule.GPIPE, Schedule.ONE_F_ONE_B):
            return
        for part in self._parts:
            for module in part.modules():
                if isinstance(module, FSDPModule):
                    module.unshard(async_op=True)

    def _schedule(self, inputs: Tensor) -> Any:
        key = tuple(inputs.shape)
        if key not in self._schedules:
            plan = self._mesh.plan
            micro = inputs[: len(inputs) // plan.microbatches]
            passed = passing(self._skeleton, micro, plan)
            stages = [self._stage(number, part, passed) for number, part in enumerate(self._parts)]
            self._schedules[key] = _schedule(stages, plan, self._measure)
        return self._schedules[key]

    def _measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self._loss is None:
            raise PlanningError("the pipeline has no loss", field="loss")
        return self._loss(outputs, targets)

    def _stage(self, number: int, part: nn.Module, passed: list[Carry]) -> PipelineStage:
        plan = self._mesh.plan
        index = self._mesh.rank("pp") + number * plan.pp
        first, end = self._ranges[index]
        return PipelineStage(
            part,
            index,
            len(self._ranges),
            self._mesh.device,
            input_args=passed[first],
            output_args=passed[end],
            group=self._mesh.group("pp"),
        )


def _sendable(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Zero-bubble schedules send on the gradients of the inputs as autograd makes them."""
    return tuple(contiguous_gradient(x) if x.requires_grad else x for x in args)


def _detachable(_module: nn.Module, args: tuple[Tensor, ...], out: Tensor | Carry) -> Tensor | Carry:
    """Zero-bubble schedules detach outputs in place, which views, and inputs that only pass through, do not allow."""
    if isinstance(out, tuple):
        return tuple(x.clone() for x in out)
    return out.clone() if out._is_view() or any(out is x for x in args) else out  # noqa: SLF001


def passing(skeleton: list[nn.Module], inputs: Tensor, plan: ParallelPlan) -> list[Carry]:
    """What stands before each block and after the last on one rank, for its micro-batch `inputs`.

    `inputs` is what the rank gives to the model: under context parallelism the rank's part of the tokens where the
    first block takes tokens.
    """
    taken = inputs
    if plan.cp > 1 and sequence_of(skeleton[0]) == "tokens":
        whole = (len(inputs), inputs.shape[1] * plan.cp, *inputs.shape[2:])
        taken = torch.empty(whole, dtype=inputs.dtype, device="meta")
    kind = boundary_type(plan)
    found: list[Carry] = [(torch.empty_like(inputs, device="meta"),)]
    for place, carry in enumerate(boundaries(skeleton, taken)[1:], start=1):
        around = [sequence_of(block) for block in skeleton[place - 1 : place + 1]]
        found.append(tuple(_passed(tensor, _divisor(around, plan), kind) for tensor in carry))
    return found


def _passed(tensor: Tensor, divisor: int, kind: torch.dtype | None) -> Tensor:
    shape = list(tensor.shape)
    if divisor > 1:
        shape[1] //= divisor
    floating = tensor.is_floating_point()
    made = torch.empty(shape, dtype=kind if floating and kind else tensor.dtype, device="meta")
    return made.requires_grad_(floating)


def _divisor(around: list[str], plan: ParallelPlan) -> int:
    """Over how many ranks dimension 1 is parted between two blocks."""
    context = plan.cp if any(value in CONTEXT_PARTED for value in around) else 1
    sequence = plan.tp if plan.sequence_parallel and len(around) > 1 and "split" in around else 1
    return context * sequence


def _schedule(stages: list[PipelineStage], plan: ParallelPlan, loss: Loss) -> Any:
    arguments: dict[str, Any] = {"n_microbatches": plan.microbatches, "loss_fn": loss, "scale_grads": False}
    match plan.schedule:
        case Schedule.GPIPE:
            return ScheduleGPipe(stages[0], **arguments)
        case Schedule.ONE_F_ONE_B:
            return Schedule1F1B(stages[0], **arguments)
        case Schedule.INTERLEAVED:
            return ScheduleInterleaved1F1B(stages, **arguments)  # type: ignore[arg-type]
        case Schedule.ZERO_BUBBLE:
            return ScheduleInterleavedZeroBubble(stages, **arguments)  # type: ignore[arg-type]
