"""Processor time that the runtime adds to a step, over a script written by hand in torch for the same plan."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import Schedule1F1B
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    PrepareModuleInput,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel

from sextant_parallel.runtime import apply
from sextant_planner.plan import ParallelPlan, Sharding
from sextant_zoo import build
from sextant_zoo.blocks import BlockModel
from tests.bench.ranks import run as run_ranks
from tests.bench.report import Report

BATCH, SEQUENCE, VOCABULARY, HIDDEN = 8, 64, 256, 128
RESOLVED_PCT = 2.0
Step = Callable[[Tensor, Tensor], Tensor]
PLANS = {
    "dp2": ParallelPlan(global_batch=BATCH, dp_replicate=2, microbatches=2),
    "zero3": ParallelPlan(global_batch=BATCH, dp_shard=2, sharding=Sharding.ZERO3, microbatches=2),
    "tp2": ParallelPlan(global_batch=BATCH, tp=2),
    "pp2": ParallelPlan(global_batch=BATCH, pp=2, microbatches=4),
}


def run(report: Report) -> None:
    """Each plan on two ranks that run both, turn by turn; the ranks' processor times are added up."""
    blocks, steps = (16, 2) if report.quick else (200, 2)
    ratios: list[float] = []
    for name, plan in PLANS.items():
        report.say(name)
        ranks: list[list[tuple[float, float]]] = run_ranks(plan.world, rank, name, blocks, steps, timeout_s=1200.0)
        ours = [sum(rank[block][0] for rank in ranks) for block in range(blocks)]
        theirs = [sum(rank[block][1] for rank in ranks) for block in range(blocks)]
        added = [100.0 * (mine / by_hand - 1.0) for mine, by_hand in zip(ours, theirs, strict=True)]
        ratios += added
        report.figure(f"{name}_added_pct", statistics.median(added))
        report.figure(f"{name}_added_pct_upper", upper(added))
        report.figure(f"{name}_step_cpu_ms", 1000.0 * statistics.median(theirs) / steps)
        report.sample(f"{name}_added_pct", added)
    if max(report.figures[f"{name}_added_pct_upper"] for name in PLANS) > RESOLVED_PCT:
        report.note(f"where an upper bound is over {RESOLVED_PCT:.0f} %, this run is too noisy or too short to tell")
    report.figure("added_pct", statistics.median(ratios))
    report.figure("added_pct_upper", upper(ratios))
    report.note(
        f"decoder of 4 layers, width {HIDDEN}, {BATCH} x {SEQUENCE} tokens, SGD, the mean loss known on all ranks"
    )
    report.note("upper: 95 % bound of the median by bootstrap over blocks of steps; order within a pair by chance")


def upper(values: list[float], draws: int = 2000) -> float:
    """The upper bound of the 95 % interval of the median, by bootstrap with a fixed seed."""
    chance = random.Random(5)
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(draws))
    return medians[int(0.975 * draws)]


def rank(name: str, blocks: int, steps: int) -> list[tuple[float, float]]:
    """One rank: processor seconds of each block of steps, by the runtime and by hand."""
    plan = PLANS[name]
    ours, by_hand = _ours(plan), BY_HAND[name](plan)
    tokens = torch.randint(0, VOCABULARY, (BATCH, SEQUENCE + 1), generator=torch.Generator().manual_seed(3))
    where = dist.get_rank() if plan.dp > 1 else 0
    share = BATCH // plan.dp
    mine = tokens[where * share : (where + 1) * share]
    inputs, targets = mine[:, :-1].contiguous(), mine[:, 1:].contiguous()
    for step in (ours, by_hand, ours, by_hand):
        _measure(step, inputs, targets, 2)
    if abs(float(ours(inputs, targets)) - float(by_hand(inputs, targets))) > 1e-4:
        raise AssertionError("the two do not train alike")
    chance = random.Random(9)
    found = []
    for _ in range(blocks):
        if chance.random() < 0.5:
            first = _measure(ours, inputs, targets, steps)
            found.append((first, _measure(by_hand, inputs, targets, steps)))
        else:
            first = _measure(by_hand, inputs, targets, steps)
            found.append((_measure(ours, inputs, targets, steps), first))
    return found


def _measure(step: Step, inputs: Tensor, targets: Tensor, steps: int) -> float:
    dist.barrier()
    began = time.process_time()
    for _ in range(steps):
        step(inputs, targets)
    return time.process_time() - began


def _model() -> BlockModel:
    torch.manual_seed(1)
    config = {"hidden": HIDDEN, "layers": 4, "heads": 4, "vocabulary": VOCABULARY, "sequence": SEQUENCE}
    model = build("decoder", config, (SEQUENCE,), VOCABULARY)
    if not isinstance(model, BlockModel):
        raise TypeError(type(model).__name__)
    return model


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum") / SEQUENCE


def _sgd(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1e-3)


def _ours(plan: ParallelPlan) -> Step:
    return apply(_model(), plan, optimizer=_sgd, loss=_loss).train_step


def _dp(plan: ParallelPlan) -> Step:
    """DistributedDataParallel with gradient accumulation."""
    model = DistributedDataParallel(_model(), broadcast_buffers=False, gradient_as_bucket_view=True)
    optimizer = _sgd(model.parameters())

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(())
        pairs = list(zip(inputs.chunk(plan.microbatches), targets.chunk(plan.microbatches), strict=True))
        for rows, wanted in pairs[:-1]:
            with model.no_sync():
                loss = _loss(model(rows), wanted) * (2 / BATCH)
                torch.autograd.backward(loss)
            total += loss.detach()
        loss = _loss(model(pairs[-1][0]), pairs[-1][1]) * (2 / BATCH)
        torch.autograd.backward(loss)
        total += loss.detach()
        optimizer.step()
        dist.all_reduce(total)
        return total / 2

    return step


def _zero3(plan: ParallelPlan) -> Step:
    """FSDP2 on each block and on the rest."""
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("dp",))
    model = _model()
    for block in model.blocks.values():
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    optimizer = _sgd(model.parameters())

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros(())
        for rows, wanted in zip(inputs.chunk(plan.microbatches), targets.chunk(plan.microbatches), strict=True):
            loss = _loss(model(rows), wanted) * (2 / BATCH)
            torch.autograd.backward(loss)
            total += loss.detach()
        optimizer.step()
        dist.all_reduce(total)
        return total / 2

    return step


def _tp(plan: ParallelPlan) -> Step:
    """parallelize_module, as in torch's tutorial."""
    del plan
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tp",))
    model = _model()
    whole = PrepareModuleInput(input_layouts=(Replicate(),), desired_input_layouts=(Replicate(),))
    columns = {f"attention.{name}": ColwiseParallel() for name in "qkv"}
    columns |= {"mlp.gate": ColwiseParallel(), "mlp.up": ColwiseParallel()}
    rows = {"attention.o": RowwiseParallel(), "mlp.down": RowwiseParallel()}
    for name, block in model.blocks.items():
        if name.startswith("layer"):
            parallelize_module(block, mesh, {"attention": whole, "mlp": whole, **columns, **rows})
    parallelize_module(model.blocks["embed"], mesh, {"tokens": RowwiseParallel(input_layouts=Replicate())})
    parallelize_module(model.blocks["head"], mesh, {"output": ColwiseParallel(output_layouts=Replicate())})
    split = [parameter for parameter in model.parameters() if hasattr(parameter, "device_mesh")]
    others = [parameter for parameter in model.parameters() if not hasattr(parameter, "device_mesh")]
    optimizer = _sgd([{"params": split}, {"params": others}])

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        loss = _loss(model(inputs), targets) / BATCH
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    return step


def _pp(plan: ParallelPlan) -> Step:
    """torch.distributed.pipelining by hand."""
    me, cut = dist.get_rank(), 3
    model = _model()
    part: nn.Module = model.part(0, cut) if me == 0 else model.part(cut, len(model.blocks))
    rows = BATCH // plan.microbatches
    tokens = torch.empty(rows, SEQUENCE, dtype=torch.int64, device="meta")
    between = torch.empty(rows, SEQUENCE, HIDDEN, device="meta", requires_grad=True)
    logits = torch.empty(rows, SEQUENCE, VOCABULARY, device="meta", requires_grad=True)
    ends = ((tokens,), (between,)) if me == 0 else ((between,), (logits,))
    stage = PipelineStage(part, me, 2, torch.device("cpu"), input_args=ends[0], output_args=ends[1])
    schedule = Schedule1F1B(stage, plan.microbatches, lambda out, wanted: _loss(out, wanted) / BATCH, scale_grads=False)
    optimizer = _sgd(part.parameters())

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        losses: list[Tensor] = []
        if me == 0:
            schedule.step(inputs, return_outputs=False)
        else:
            schedule.step(target=targets, losses=losses, return_outputs=False)
        optimizer.step()
        total = torch.stack(losses).sum().detach() if losses else torch.zeros(())
        dist.all_reduce(total)
        return total

    return step


BY_HAND: dict[str, Callable[[ParallelPlan], Step]] = {"dp2": _dp, "zero3": _zero3, "tp2": _tp, "pp2": _pp}
