"""Puts a plan and a model together: the techniques in the order in which they go, and the step that results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from sextant_parallel import checkpoint
from sextant_parallel.runtime import clip, context, data, precision, tensor
from sextant_parallel.runtime.chain import Chain, chain_of, sequence_of, stage_ranges
from sextant_parallel.runtime.checks import require_runnable, require_sequence, shares_of
from sextant_parallel.runtime.convolution import ColumnConvolution, RowConvolution
from sextant_parallel.runtime.mesh import Mesh, build_mesh, require_equal
from sextant_parallel.runtime.normalisation import PlannedBatchNorm, synchronise
from sextant_parallel.runtime.offload import HostStates
from sextant_parallel.runtime.recompute import recompute
from sextant_planner.plan import ParallelPlan
from sextant_planner.record import PlanningError

if TYPE_CHECKING:
    from sextant_parallel.runtime.pipeline import Pipeline

SumLoss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> the sum of the losses of the samples, a scalar. The loss of a sample must be a sum, too, over
its positions where context parallelism is to split it: such as the cross entropy of each token, divided by the length
of the whole sequence."""

MakeOptimizer = Callable[[list[dict[str, Any]]], Optimizer]
"""Parameter groups -> an optimizer; such as `lambda groups: torch.optim.AdamW(groups, lr=1e-3)`."""


MOST_SHAPES = 256
"""Forms of blocks of one class, and of their batches, for each of which one is compiled."""


class Runtime:
    """One rank's part of a model under a plan. Every rank of the world calls the same methods in the same order."""

    def __init__(
        self, module: nn.Module, mesh: Mesh, copies: data.Replication, run: Pipeline | None, chain: Chain
    ) -> None:
        self.module = module
        """This rank's part of the model, under the names of the whole one."""
        self.mesh = mesh
        self.plan = mesh.plan
        self.optimizers: list[Optimizer] = []
        self.clip_norm: float | None = None
        self._copies, self._pipeline, self._chain = copies, run, chain
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._host = HostStates((), move=False)
        self._loss: SumLoss = _no_loss

    def use(self, optimizer: MakeOptimizer, loss: SumLoss, clip_norm: float | None) -> None:
        """Give it the optimizer, the loss and the limit of the gradient norm; `apply` calls it."""
        holders = [block for _, block in self._held()] if self.plan.offload_optimizer else [self.module]
        groups = [_layouts(holder) for holder in holders]
        self.optimizers = [optimizer(group) for group in groups if group]
        moves = self.plan.offload_optimizer and self.mesh.device.type != "cpu"
        self._host = HostStates(self.optimizers, move=moves)
        self._loss, self.clip_norm = loss, clip_norm

    @property
    def parameters(self) -> list[nn.Parameter]:
        """This rank's parameters: tensors, or DTensors where an axis splits them."""
        return self._parameters

    @property
    def rows(self) -> slice:
        """Which rows of a full global batch are this rank's."""
        return self.rows_of(self.plan.global_batch)

    def rows_of(self, global_rows: int) -> slice:
        """Which rows of a global batch of another size are this rank's, such as of the last one of an epoch.

        Raises PlanningError, on every rank alike, where a rank would have too few for its micro-batches.
        """
        shares = shares_of(self.plan, global_rows)
        begin = sum(shares[: self.mesh.dp_rank])
        return slice(begin, begin + shares[self.mesh.dp_rank])

    def train_step(self, inputs: Tensor, targets: Tensor, global_rows: int | None = None) -> Tensor:
        """One optimizer step on this rank's share of a batch; the mean loss of the global batch, on every rank.

        `inputs` (share, ...) and `targets` (share, ...) are the rows `self.rows` of the global batch, whole sequences;
        ranks that differ in other axes than data-parallel ones give the same. `global_rows` is the size of the global
        batch where it is not the plan's.
        """
        loss = self.backward(inputs, targets, global_rows)
        self.step()
        return loss

    def backward(self, inputs: Tensor, targets: Tensor, global_rows: int | None = None) -> Tensor:
        """Set the gradients to those of the mean loss over the global batch, and return that loss."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        rows = self.rows_of(global_rows or self.plan.global_batch)
        if len(inputs) != rows.stop - rows.start or len(targets) != len(inputs):
            message = f"this rank's share is {rows.stop - rows.start} samples, not {len(inputs)} and {len(targets)}"
            raise PlanningError(message, field="global_rows", nearest=rows.stop - rows.start)
        inputs, targets = self._cut(inputs, targets)
        share = 1.0 / (global_rows or self.plan.global_batch)
        if self._gathers_at_the_end:
            share /= self.plan.cp
        scale = share * self._copies.scale
        if self._pipeline is not None:
            total = self._pipeline.backward(inputs, targets, lambda out, wanted: self._loss(out, wanted) * scale)
        else:
            total = self._microbatches(inputs, targets, scale)
        data.settle(self._parameters)
        self._copies.finish(self._parameters)
        return self._agree(total / self._copies.scale)

    def evaluate(self, inputs: Tensor, targets: Tensor, global_rows: int | None = None) -> Tensor:
        """The mean loss of a global batch, given as to `train_step`, on every rank, without training."""
        return self.measure(inputs, targets, self._loss) / (global_rows or self.plan.global_batch)

    @torch.no_grad()
    def measure(self, inputs: Tensor, targets: Tensor, sums: SumLoss) -> Tensor:
        """What `sums` gives for the outputs of a global batch of any size, on every rank, without training.

        `sums` is like a loss, but may give a vector: the sum over the samples of, say, a loss and a count of hits.
        """
        self.module.eval()
        try:
            inputs, targets = self._cut(inputs, targets)
            if self._pipeline is not None:
                total = self._pipeline.evaluate(inputs, targets, sums)
            else:
                total = sums(self._copies.module(inputs), targets)
        finally:
            self.module.train()
        return self._agree(total / self.plan.cp if self._gathers_at_the_end else total)

    def state(self) -> dict[str, Tensor]:
        """A copy of this rank's part of the parameters and buffers, by name, in the layout of the plan."""
        return {name: value.clone() for name, value in self.tensors().items()}

    def tensors(self) -> dict[str, Tensor]:
        """The same, not copied: whoever changes one changes the model."""
        state = get_model_state_dict(self.module)
        return {name: value.detach() for name, value in state.items() if isinstance(value, Tensor)}

    def gather(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """What `state` has given, put together, in host memory on rank 0; elsewhere nothing. Every rank calls it."""
        whole = {name: _whole(state[name]).cpu() for name in sorted(state)}
        stages = self.mesh.group("pp")
        parts = [whole]
        if stages is not None:
            parts = [{} for _ in range(dist.get_world_size(stages))]
            first = dist.get_global_rank(stages, 0)
            leads = dist.get_rank() == first
            dist.gather_object(whole, parts if leads else None, dst=first, group=stages)
        if dist.is_initialized() and dist.get_rank():
            return {}
        return {name: value for part in parts for name, value in part.items()}

    def step(self) -> Tensor | None:
        """Clip where asked for, and step the optimizer; the norm of the gradients before, where it was needed."""
        norm = None
        if self.clip_norm is not None:
            norm = self.gradient_norm()
            clip.clip(self._parameters, norm, self.clip_norm)
        self._host.step()
        return norm

    def gradient_norm(self) -> Tensor:
        """The 2-norm of the gradients of the whole model, on every rank."""
        return clip.gradient_norm(self._parameters, self.mesh)

    def save(self, directory: Path, extra: dict[str, Any], saver: checkpoint.Saver | None = None) -> None:
        """Write a checkpoint that any other plan for this model can load; with a `saver`, in the background."""
        with self._host.on_device():
            if saver is None:
                checkpoint.save(directory, self.module, self.optimizers, extra)
            else:
                saver.save(directory, self.module, self.optimizers, extra)

    def load(self, directory: Path, extra: dict[str, Any]) -> dict[str, Any]:
        """Load what `save` has written under any plan; `extra` as there, with what was stored."""
        with self._host.on_device():
            return checkpoint.load(directory, self.module, self.optimizers, extra)

    def _microbatches(self, inputs: Tensor, targets: Tensor, scale: float) -> Tensor:
        parts = self.plan.microbatches
        copies = self._copies
        total = torch.zeros((), device=self.mesh.device)
        pairs = zip(inputs.tensor_split(parts), targets.tensor_split(parts), strict=True)
        for index, (rows, wanted) in enumerate(pairs):
            with copies.accumulate(last=index == parts - 1):
                loss = self._loss(copies.module(rows), wanted) * scale
                torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def _cut(self, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        mesh = self.mesh.axis("cp")
        blocks = list(self._chain.blocks.values())
        if mesh is None:
            return inputs, targets
        if sequence_of(blocks[0]) == "tokens":
            require_sequence(inputs.shape[1], self.plan)
            context.place(self._chain.blocks, inputs.shape[1], mesh)
            inputs = context.part(inputs, mesh)
        if not self._gathers_at_the_end:
            targets = context.part(targets, mesh)
        return inputs, targets

    @property
    def _gathers_at_the_end(self) -> bool:
        """Whether all context-parallel ranks compute the same loss, of which each then takes a part."""
        return sequence_of(list(self._chain.blocks.values())[-1]) == "whole" and self.plan.cp > 1

    def _agree(self, loss: Tensor) -> Tensor:
        if self.mesh.root is None:
            return loss
        total = loss.float() / self.plan.tp
        dist.all_reduce(total)
        return total

    def _held(self) -> list[tuple[str, nn.Module]]:
        mine = {id(module) for module in self.module.modules()}
        return [(name, block) for name, block in self._chain.blocks.items() if id(block) in mine]


def apply(
    model: nn.Module | Callable[[], nn.Module],
    plan: ParallelPlan,
    *,
    optimizer: MakeOptimizer,
    loss: SumLoss,
    clip_norm: float | None = None,
    device: torch.device | None = None,
    synchronise_batch_norm: bool = True,
) -> Runtime:
    """Split `model`, the whole of it, the same on every rank, in host memory, as `plan` says.

    A chain of blocks (`blocks` and `part`, as in the zoo, or a Sequential) can be cut into stages; blocks with rules
    can be split by tensor parallelism; a module of any other kind runs under data parallelism. Batch normalisation
    takes its statistics over all data-parallel ranks, so that the result is that of one process;
    `synchronise_batch_norm=False` leaves them to each rank, as torch does, which is faster and not the same.

    Raises PlanningError where the plan cannot be run right, naming the block and the nearest plan that can.
    """
    mesh = build_mesh(plan, device)
    module = model if isinstance(model, nn.Module) else model()
    chain = chain_of(module)
    require_runnable(chain, plan)
    require_equal(_fingerprint(module), mesh, "the model's parameters")
    skeleton = chain.skeleton() if plan.pp > 1 else []
    if synchronise_batch_norm and plan.dp > 1:
        synchronise(module, mesh.groups("dp_replicate", "dp_shard"))
        chain = chain_of(module)  # a block that is itself a normalisation is another one now
    parts, run = _split(chain, skeleton, mesh)
    copies = data.replication(parts[0], mesh)
    runtime = Runtime(chain.joined(parts), mesh, copies, run, chain)
    runtime.use(optimizer, loss, clip_norm)
    return runtime


def _split(chain: Chain, skeleton: list[nn.Module], mesh: Mesh) -> tuple[list[nn.Module], Pipeline | None]:
    plan, names = mesh.plan, list(chain.blocks)
    ranges = stage_ranges(plan, len(names)) if plan.pp > 1 else ((0, len(names)),)
    mine = ranges[mesh.rank("pp") :: plan.pp]
    held = {name: chain.blocks[name] for first, end in mine for name in names[first:end]}
    for block in held.values():
        block.to(mesh.device)
    _split_blocks(chain, held, mesh)
    parts = [chain.part(first, end) for first, end in mine]
    for part, (first, end) in zip(parts, mine, strict=True):
        if plan.dp_shard > 1:
            data.shard(part, [chain.blocks[name] for name in names[first:end]], mesh)
        else:
            precision.compute_in(part, plan, mesh.device)
        if plan.pp > 1 and end < len(names):
            precision.send_as(part, precision.boundary_type(plan))
    return parts, _pipeline(parts, ranges, skeleton, mesh) if plan.pp > 1 else None


def _pipeline(
    parts: list[nn.Module], ranges: tuple[tuple[int, int], ...], skeleton: list[nn.Module], mesh: Mesh
) -> Pipeline:
    # torch.distributed.pipelining brings in 27 MB of symbolic algebra: what waits for work without it is to be small.
    from sextant_parallel.runtime.pipeline import Pipeline

    return Pipeline(parts, ranges, skeleton, mesh)


def _split_blocks(chain: Chain, held: dict[str, nn.Module], mesh: Mesh) -> None:
    plan = mesh.plan
    across, along = mesh.axis("tp"), mesh.axis("cp")
    if along is not None:
        context.split_context(chain.blocks, along)
    if across is not None:
        tensor.split_tensors(held, across, sequence=plan.sequence_parallel)
        if plan.sequence_parallel:
            tensor.part_sequence(chain.blocks, across)
    for index, name in enumerate(chain.blocks):
        if name in held and plan.compile and _compiles(held[name], plan):
            held[name].forward = _compiled(held[name])
        if name in held and plan.recompute and plan.recompute[index]:
            recompute(held[name])


def _compiled(block: nn.Module) -> Callable[..., Any]:
    """The block's own code, inside of the hooks of FSDP and of recomputation, which do not compile."""
    # Sympy comes with them, which takes 47 MB.
    from torch._dynamo import config as tracing
    from torch._inductor import config as generating

    # It would cut graphs where a bucket of gradients ends, and refuses small buckets; one block is done with its
    # gradients at about the same time.
    tracing.optimize_ddp = False
    # Blocks of one class count together: with the usual 8, those of a ninth shape would not be compiled.
    tracing.recompile_limit = MOST_SHAPES
    # Dropout is drawn as it is without: a run that goes on otherwise draws the same.
    generating.fallback_random = True
    return torch.compile(block.forward)


def _compiles(block: nn.Module, plan: ParallelPlan) -> bool:
    """Not where convolutions are split or statistics shared: there is little left to fuse around their collectives."""
    own = (PlannedBatchNorm, ColumnConvolution, RowConvolution)
    return plan.cp == 1 and not any(isinstance(part, own) for part in block.modules())


def _whole(tensor: Tensor) -> Tensor:
    """A collective over the ranks that hold parts of the tensor."""
    whole: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole


def _layouts(holder: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups of one layout each: fused and grouped optimizer kernels take no mixture of tensor kinds."""
    groups: dict[object, list[nn.Parameter]] = {}
    for parameter in holder.parameters():
        if parameter.requires_grad:
            key = parameter.device_mesh if isinstance(parameter, DTensor) else None
            groups.setdefault(key, []).append(parameter)
    return [{"params": parameters} for parameters in groups.values()]


def _fingerprint(module: nn.Module) -> Tensor:
    sums = [parameter.detach().double().sum() for parameter in module.parameters()]
    return torch.stack(sums) if sums else torch.zeros(1, dtype=torch.float64)


def _no_loss(outputs: Tensor, targets: Tensor) -> Tensor:
    del outputs, targets
    raise PlanningError("apply was not given a loss", field="loss")
