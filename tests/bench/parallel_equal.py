"""One plan, the same result as one process: every plan kind times every family of models, in float32."""

from __future__ import annotations

import pickle
import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sextant_parallel.runtime import Runtime, apply
from sextant_planner.plan import ParallelPlan
from sextant_planner.record import PlanningError
from tests.bench import parallel_cases as cases
from tests.bench.parallel_cases import FAMILIES, PLANS, STEPS, Family, plan_for, refused
from tests.bench.ranks import TIMEOUT_S
from tests.bench.ranks import run as run_ranks
from tests.bench.report import Report

OPTIONS = {family: f"{family} alone, or with others that are named" for family in FAMILIES}
GRADIENT = 1e-5
"""Largest difference of a gradient in the first step, as a share of the tensor's largest number."""
PARAMETER = 1e-4
"""The same of a parameter after the last step."""
MOVED = 0.01
"""Share by which training must have moved the parameters, so that equality says something."""
COMPILED_S = 600.0
"""Of a case whose blocks are compiled, which two cores may take minutes for."""
LOOSER: dict[str, tuple[float, float, str]] = {}
"""By family: other bounds, and why."""


@dataclass(frozen=True)
class Outcome:
    """What came out of one case: the largest differences, and where."""

    grad_diff: float
    param_diff: float
    worst: str
    moved: float
    refusal: str = ""
    loss_diff: float = 0.0


@dataclass
class Reference:
    """One process: gradients of the first step, parameters and buffers after the last, and the losses."""

    grads: dict[str, Tensor]
    params: dict[str, Tensor]
    buffers: dict[str, Tensor]
    losses: list[float]
    moved: float = field(default=0.0)


def batches(family: Family, kind: torch.dtype, steps: int) -> list[tuple[Tensor, Tensor]]:
    """The global batches of the first steps."""
    generator = torch.Generator().manual_seed(11)
    pairs = [family.sample(generator) for _ in range(steps)]
    return [(x.to(kind) if x.is_floating_point() else x, y) for x, y in pairs]


def runs(family: Family) -> list[tuple[torch.dtype, int]]:
    """The types and numbers of steps in which a family is compared: the first for gradients, the last for the rest."""
    return [(torch.float32, 1), (torch.float64, STEPS)] if family.double else [(torch.float32, STEPS)]


def reference(family: Family, plan: ParallelPlan, kind: torch.dtype, steps: int) -> Reference:
    """Plain torch. Families with batch normalisation take the plan's micro-batches, over all ranks, one by one."""
    torch.set_num_threads(1)
    model = family.model().to(kind)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=family.rate)
    grads: dict[str, Tensor] = {}
    losses = []
    for inputs, targets in batches(family, kind, steps):
        optimizer.zero_grad()
        total = 0.0
        for rows in _parts(plan) if family.coupled else [slice(None)]:
            loss = family.loss(model(inputs[rows]), targets[rows]) / cases.BATCH
            torch.autograd.backward(loss)
            total += float(loss.detach())
        losses.append(total)
        if not grads:
            grads = {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}
        optimizer.step()
    after = {name: value.detach() for name, value in model.named_parameters()}
    moved = _norm([after[name] - before[name] for name in after]) / _norm(list(before.values()))
    buffers = {name: value for name, value in model.named_buffers() if value.is_floating_point()}
    return Reference(grads, after, buffers, losses, moved)


def _parts(plan: ParallelPlan) -> list[Tensor]:
    """The rows of each micro-batch, over all data-parallel ranks."""
    shares = torch.split(torch.arange(cases.BATCH), list(plan.shares))
    by_rank = [share.tensor_split(plan.microbatches) for share in shares]
    return [torch.cat([parts[index] for parts in by_rank]) for index in range(plan.microbatches)]


def _norm(tensors: list[Tensor]) -> float:
    return float(torch.cat([tensor.flatten() for tensor in tensors]).norm())


def rank(family_name: str, plan: ParallelPlan, packed: bytes, fault: str = "") -> Outcome:
    """One rank's part of a case: train, and compare what it holds with what one process got."""
    expected: list[Reference] = pickle.loads(packed)
    found = [
        _rank(FAMILIES[family_name], plan, wanted, fault, kind, steps)
        for wanted, (kind, steps) in zip(expected, runs(FAMILIES[family_name]), strict=True)
    ]
    return replace(found[-1], grad_diff=found[0].grad_diff)


def _rank(
    family: Family, plan: ParallelPlan, expected: Reference, fault: str, kind: torch.dtype, steps: int
) -> Outcome:
    sgd = lambda groups: torch.optim.SGD(groups, lr=family.rate)  # noqa: E731
    try:
        runtime = apply(family.model().to(kind), plan, optimizer=sgd, loss=family.loss)
    except PlanningError as error:
        return Outcome(0.0, 0.0, "", 0.0, str(error))
    if fault:
        _plant(runtime, fault)
    grad_diff, worst, losses = 0.0, "", []
    for step, (inputs, targets) in enumerate(batches(family, kind, steps)):
        mine = runtime.rows
        losses.append(float(runtime.backward(inputs[mine], targets[mine])))
        if step == 0:
            grads = {name: value.grad for name, value in runtime.module.named_parameters()}
            grad_diff, worst = _difference(grads, expected.grads)
        runtime.step()
    params: dict[str, Any] = dict(runtime.module.named_parameters())
    params |= {name: value for name, value in runtime.module.named_buffers() if value.is_floating_point()}
    param_diff, where = _difference(params, expected.params | expected.buffers)
    loss_diff = max(abs(mine - theirs) for mine, theirs in zip(losses, expected.losses, strict=True))
    return Outcome(grad_diff, param_diff, f"{worst}, {where}", expected.moved, "", loss_diff)


def _difference(mine: dict[str, Any], wanted: dict[str, Tensor]) -> tuple[float, str]:
    """The largest difference as a share of its tensor's largest number, and the tensor's name."""
    found = [(_relative(None if value is None else whole(value), wanted[name]), name) for name, value in mine.items()]
    return max(found) if found else (0.0, "")


def _relative(mine: Tensor | None, wanted: Tensor) -> float:
    if mine is None or mine.shape != wanted.shape:
        return float("inf")
    difference = float((mine - wanted).abs().max() / wanted.abs().max().clamp(min=1e-12))
    return difference if difference == difference else float("inf")  # noqa: PLR0124 - not a number


def whole(value: Tensor) -> Tensor:
    """All of a tensor, of which this rank may hold a part."""
    return value.full_tensor().detach() if isinstance(value, DTensor) else value.detach()


def _plant(runtime: Runtime, fault: str) -> None:
    """Break the runtime in a known way, to see that the comparison notices."""
    if fault != "no-all-reduce":
        raise ValueError(fault)
    module: nn.Module = runtime.module
    copies = runtime._copies
    copies.module, copies.scale = module, 1.0
    copies.accumulate = lambda **_: torch.enable_grad()  # type: ignore[method-assign]
    copies.finish = lambda parameters: None  # type: ignore[method-assign]


def case(family_name: str, plan_name: str, fault: str = "") -> Outcome:
    """Run one case in its own world; the worst of its ranks."""
    family = FAMILIES[family_name]
    plan = plan_for(plan_name, family)
    expected = [reference(family, plan, kind, steps) for kind, steps in runs(family)]
    limit = COMPILED_S if plan.compile else TIMEOUT_S
    given = pickle.dumps(expected)
    found: list[Outcome] = run_ranks(plan.world, rank, family_name, plan, given, fault, timeout_s=limit)
    return max(found, key=lambda outcome: max(outcome.grad_diff / GRADIENT, outcome.param_diff / PARAMETER))


def bounds(family_name: str) -> tuple[float, float]:
    """The bounds of a family."""
    grad, param, _ = LOOSER.get(family_name, (GRADIENT, PARAMETER, ""))
    return grad, param


def verdict(family_name: str, plan_name: str, outcome: Outcome) -> str:
    """Nothing where a case is as it should be, or what is wrong."""
    family = FAMILIES[family_name]
    if refused(plan_for(plan_name, family), family):
        return "" if outcome.refusal else "was not refused"
    if outcome.refusal:
        return f"was refused: {outcome.refusal}"
    grad, param = bounds(family_name)
    if outcome.grad_diff > grad or outcome.param_diff > param:
        return f"differs: gradient {outcome.grad_diff:.1e}, parameter {outcome.param_diff:.1e} ({outcome.worst})"
    return "" if outcome.moved >= MOVED else f"moved by {outcome.moved:.1%} only"


def run(report: Report) -> None:
    """All cases, or those of some families; then a planted fault, which must be noticed."""
    chosen = cases.QUICK if report.quick else tuple(PLANS)
    grads, params, wrong = [], [], []
    for family_name in [name for name in FAMILIES if name in report.options] or list(FAMILIES):
        for plan_name in chosen:
            began = time.perf_counter()
            outcome = case(family_name, plan_name)
            problem = verdict(family_name, plan_name, outcome)
            took = time.perf_counter() - began
            state = problem or (outcome.refusal and "refused") or f"{outcome.grad_diff:.1e} {outcome.param_diff:.1e}"
            report.say(f"{family_name:<12} {plan_name:<22} {took:5.1f} s  {state}")
            if problem:
                wrong.append(f"{family_name} {plan_name}: {problem}")
            elif not outcome.refusal:
                grads.append(outcome.grad_diff)
                params.append(outcome.param_diff)
    fault = case("decoder", "dp2", "no-all-reduce")
    report.figure("plans", len(grads))
    report.figures["max_grad_diff"], report.figures["max_param_diff"] = max(grads), max(params)
    report.figure("wrong", len(wrong))
    report.figure("fault_noticed", float(bool(verdict("decoder", "dp2", fault))))
    report.sample("grad_diff", grads)
    report.sample("param_diff", params)
    for text in wrong:
        report.note(text)
    for family_name, (grad, param, why) in LOOSER.items():
        report.note(f"{family_name}: bounds {grad:.0e} and {param:.0e}: {why}")
    if wrong or not verdict("decoder", "dp2", fault):
        raise SystemExit("\n".join(wrong) or "the planted fault was not noticed")
