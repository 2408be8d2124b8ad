"""What training ResNet-152 in 18 hours instead of 72 takes: measured on this machine's cores, simulated for GPUs.

The baseline is defined by its time: as many epochs of ImageNet as one device does in 72 hours by its own best plan. The
global batch is the same on any number of devices, so that all of them train alike, in the same number of steps. For
GPUs everything is predicted from the catalogue's constants. Its constants for products were fitted to transformers, so
that the ratio between numbers of devices is to be trusted further than the images a second.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch.nn import functional

from sextant_parallel.profiling.device import measure_device
from sextant_parallel.runtime import apply
from sextant_planner import catalogue
from sextant_planner.cost.step import StepCosts
from sextant_planner.model import ModelProfile
from sextant_planner.plan import ParallelPlan, Precision, Sharding
from sextant_planner.record import PlanningError
from sextant_planner.search.engine import Candidate, search
from sextant_planner.search.space import Wishes
from sextant_zoo import build
from tests.bench.ranks import run as run_ranks
from tests.bench.report import Report

BASELINE_HOURS, TARGET_HOURS = 72.0, 18.0
IMAGENET = 1_281_167
"""Training images of ILSVRC 2012: Russakovsky et al., 2015."""
DEVICE, OTHERS = "a100-80gb", ("h100-80gb", "h200-141gb")
COUNTS = (1, 2, 4, 8, 16, 32, 64)
BATCH = 1024
CORES, LOCAL_BATCH = 2, 16
"""A core is a device here, so that two make a world."""
WAYS = {"core": (1, True), "cores": (CORES, True), "cores_apart": (CORES, False)}
"""Ranks, and whether batch normalisation takes its statistics over all of them."""
SHAPE, CLASSES = (3, 224, 224), 1000


@dataclass(frozen=True, slots=True)
class Steps:
    """Measured steps, and what the devices together reach in matrix products at best."""

    seconds: tuple[float, ...]
    peak_flops: float


def run(report: Report) -> None:
    """This machine first, then the catalogue."""
    model = catalogue.model("resnet152")
    images = _simulated(report, model)
    _measured(report, model, images)
    for device in OTHERS:
        count, told = _needed(model, device)
        report.note(f"simulated, {device}: {count} devices reach {TARGET_HOURS:.0f} h of the same definition; {told}")


def best(model: ModelProfile, device: str, count: int, wishes: Wishes) -> Candidate:
    """The fastest plan there is."""
    return search(model, catalogue.cluster(device, count), wishes, top=1).best


def hours(images: float, images_a_second: float) -> float:
    """That so many images take."""
    return images / images_a_second / 3600


def least(rates: dict[int, float], images: float, limit_hours: float) -> int | None:
    """The smallest number of devices, by images a second, that is done in time."""
    return min((count for count, rate in rates.items() if hours(images, rate) <= limit_hours), default=None)


def _simulated(report: Report, model: ModelProfile) -> float:
    """Predictions for each number of devices; the images of the baseline."""
    found = {count: best(model, DEVICE, count, _wishes()) for count in COUNTS}
    one = found[1].prediction.samples_per_s
    images = one * BASELINE_HOURS * 3600
    report.figure("baseline", BASELINE_HOURS)
    report.figure("baseline_epochs", images / IMAGENET)
    count, told = _needed(model, DEVICE)
    report.figure("devices", count)
    for number, candidate in found.items():
        rate, prediction = candidate.prediction.samples_per_s, candidate.prediction
        report.figure(f"predicted_hours_{number}", hours(images, rate))
        report.figure(f"predicted_mfu_{number}", prediction.model_flops_utilisation)
        report.note(
            f"simulated, {number} x {DEVICE}: {candidate.plan.describe()}; {rate:.0f} images/s,"
            f" {hours(images, rate):.1f} h, efficiency {rate / number / one:.1%}; {_why(model, number, candidate)}"
        )
    report.note(
        f"baseline: {images / IMAGENET:.1f} epochs of ImageNet, {BATCH} images a step, bfloat16, on one {DEVICE} by its"
        f" best plan, simulated; {count} reach {TARGET_HOURS:.0f} h: {told}"
    )
    report.note(_normalising(model, found))
    report.note("the constants for products were fitted to transformers, and no convolution has been measured on a GPU")
    return images


def _normalising(model: ModelProfile, found: dict[int, Candidate]) -> str:
    """What statistics of batches over all ranks take of the predicted steps."""
    blocks = tuple(block.model_copy(update={"batch_norms": 0}) for block in model.blocks)
    apart = model.model_copy(update={"blocks": blocks})
    told = []
    for count, candidate in found.items():
        whole, cluster = candidate.prediction.step_s, catalogue.cluster(DEVICE, count)
        if count > 1:
            told.append(f"{count} {100 * (1 - StepCosts(apart, cluster).predict(candidate.plan).step_s / whole):.1f} %")
    norms = sum(block.batch_norms for block in model.blocks)
    return f"statistics of {norms} batch normalisations over all ranks, of a step, by devices: {', '.join(told)}"


def _needed(model: ModelProfile, device: str) -> tuple[int, str]:
    """The least devices that reach the target, and how near one fewer comes."""
    rates = {
        count: best(model, device, count, _wishes()).prediction.samples_per_s
        for count in range(1, 2 * round(BASELINE_HOURS / TARGET_HOURS) + 1)
    }
    images = rates[1] * BASELINE_HOURS * 3600
    count = least(rates, images, TARGET_HOURS)
    if count is None:
        raise AssertionError("even twice the ideal number of devices is too slow")
    told = [
        f"{number} take {hours(images, rates[number]):.1f} h at {rates[number] / number / rates[1]:.1%} efficiency"
        for number in (count - 1, count)
    ]
    return count, "; ".join(told)


def _why(model: ModelProfile, count: int, chosen: Candidate) -> str:
    """How much slower the best plans of other kinds are."""
    if count == 1:
        return "as many micro-batches as the memory needs"
    kinds = {
        "plain data parallelism": _wishes(tp=1, pp=1, sharding=(Sharding.NONE,)),
        "tensor parallelism": _wishes(tp=2),
        "a pipeline": _wishes(pp=2),
    }
    told = []
    for kind, wishes in kinds.items():
        try:
            other = best(model, DEVICE, count, wishes).prediction.step_s
        except PlanningError:
            told.append(f"{kind} does not go")
            continue
        told.append(f"{kind} {100 * (other / chosen.prediction.step_s - 1):+.1f} %")
    return "step against it: " + ", ".join(told)


def _wishes(tp: int | None = None, pp: int | None = None, sharding: tuple[Sharding, ...] = tuple(Sharding)) -> Wishes:
    return Wishes(global_batch=BATCH, precision=Precision.BFLOAT16, tp=tp, pp=pp, sharding=sharding)


def _measured(report: Report, model: ModelProfile, images: float) -> None:
    """One core, and both as data-parallel ranks, turn by turn."""
    batch, rounds, steps = (LOCAL_BATCH // 4, 1, 1) if report.quick else (LOCAL_BATCH, 3, 3)
    taken: dict[str, list[Steps]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, (cores, joint) in WAYS.items():
            report.say(f"measuring {name}")
            found = run_ranks(cores, rank, batch, cores, joint, steps, timeout_s=500.0)
            taken[name].append(_joined(found))
    for name, parts in taken.items():
        seconds = [each for part in parts for each in part.seconds]
        step, peak = statistics.median(seconds), statistics.median(part.peak_flops for part in parts)
        report.sample(f"{name}_step_s", seconds)
        report.figure(f"{name}_step_s", step)
        report.figure(f"{name}_images_per_second", batch / step)
        report.figure(f"{name}_mfu", 3 * model.forward_flops * batch / step / peak)
        report.figure(f"{name}_peak_gflops", peak / 1e9)
        report.figure(f"{name}_speedup", report.figures["core_step_s"] / step)
    report.figure("mfu", report.figures["cores_mfu"])
    days = hours(images, report.figures["cores_images_per_second"]) / 24
    report.note(
        f"measured: {batch} images of 224 x 224 a step, float32, SGD with momentum, one thread a core; on one core, on"
        f" {CORES} data-parallel ranks over gloo (cores), and on those with batch statistics of their own, as is usual"
        " in torch (cores_apart). mfu: of cores, against the products that they reach at the same time. The baseline"
        f" would take these cores {days:.0f} days"
    )


def _joined(ranks: list[Steps]) -> Steps:
    """A step takes as long as the slowest rank; the devices' peaks add up."""
    slowest = tuple(max(each) for each in zip(*(rank.seconds for rank in ranks), strict=True))
    return Steps(slowest, sum(rank.peak_flops for rank in ranks))


def rank(batch: int, ranks: int, joint: bool, steps: int) -> Steps:
    """One rank: seconds of each step after the first, and the peak of its core while the others measure theirs."""
    torch.manual_seed(1)
    plan = ParallelPlan(global_batch=batch, dp_replicate=ranks)
    model = build("resnet152", {}, SHAPE, CLASSES)
    runtime = apply(model, plan, optimizer=_momentum, loss=_loss, synchronise_batch_norm=joint)
    inputs, targets = torch.randn(batch, *SHAPE), torch.randint(0, CLASSES, (batch,))
    inputs, targets = inputs[runtime.rows], targets[runtime.rows]
    _together(ranks)
    peak = measure_device().flops[Precision.FLOAT32]
    seconds = []
    for _ in range(steps + 1):
        _together(ranks)
        began = time.perf_counter()
        runtime.train_step(inputs, targets)
        seconds.append(time.perf_counter() - began)
    return Steps(tuple(seconds[1:]), peak)


def _together(ranks: int) -> None:
    if ranks > 1:
        dist.barrier()


def _momentum(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=1e-3, momentum=0.9)


def _loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum")
