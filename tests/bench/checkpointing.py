"""Peak activation memory that recomputing every block saves on ResNet-152 and BERT-base, and what it costs in time.

Measured is the most bytes of live tensors that are no parameter, input or gradient of a parameter: activations, the
gradients that flow between them, and what single operations make. That is what checkpointing can save, and it is
counted exactly (`live_memory`); gradients of parameters are the same in both, and a smaller share the larger the batch.
The sum with those gradients is held against the growth of the process's resident memory in the same processes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sextant_parallel.profiling.timing import with_times
from sextant_parallel.profiling.trace import trace
from sextant_parallel.runtime import apply
from sextant_parallel.runtime.apply import Runtime
from sextant_parallel.runtime.chain import chain_of
from sextant_planner.cost.step import Prediction, StepCosts
from sextant_planner.plan import ParallelPlan
from sextant_zoo import build
from tests.bench.live_memory import Peaks, peaks_of, resident_peak, return_memory_at_once
from tests.bench.ranks import run as run_ranks
from tests.bench.report import Report
from tests.bench.this_machine import DEVICE, one_device

THREADS = 2
LOSSES_AGREE = 1e-4
"""Relative: the forward passes are the same, and only steps that were taken before can tell the two apart."""
MB = 1e6


@dataclass(frozen=True, slots=True)
class Case:
    """A model, and the batch that it is trained on."""

    architecture: str
    settings: dict[str, int]
    shape: tuple[int, ...]
    classes: int
    batch: int
    vocabulary: int = 0
    """0: the inputs are images."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One mode: the ledger's peaks, and the process's growth as glibc gives memory back at once, and by default."""

    peaks: Peaks
    resident: int
    resident_by_default: int


CASES = {
    "resnet152": Case("resnet152", {}, (3, 224, 224), 1000, 8),
    "bert_base": Case("encoder", {"hidden": 768, "layers": 12, "heads": 12, "sequence": 512}, (128,), 2, 8, 30_522),
}


def run(report: Report) -> None:
    """Each mode's memory in processes of its own; the times of both in one process, turn by turn."""
    pairs = 1 if report.quick else 9
    found = {}
    for name in CASES:
        case = _sized(report, name)
        found[name] = _memory(report, name, case)
        _times(report, name, case, pairs)
    worst = min(CASES, key=lambda name: report.figures[f"{name}_saved_pct"])
    for key in ("peak_mb_off", "peak_mb_on", "saved_pct"):
        report.figure(key, report.figures[f"{worst}_{key}"])
    report.figure("slowdown_pct", max(report.figures[f"{name}_slowdown_pct"] for name in CASES))
    report.note(f"peaks and saved_pct without a name are those of {worst}, which saves least; slowdown_pct the larger")
    for name, modes in found.items():
        _tell(report, name, *modes)


def _sized(report: Report, name: str) -> Case:
    """With a quarter of the batch where the answer is to come within a minute."""
    case = CASES[name]
    return replace(case, batch=case.batch // 4) if report.quick else case


def _memory(report: Report, name: str, case: Case) -> tuple[Measured, Measured]:
    report.say(f"{name}: memory")
    off, on = (_measured(case, again, quick=report.quick) for again in (False, True))
    report.figure(f"{name}_peak_mb_off", off.peaks.activations / MB)
    report.figure(f"{name}_peak_mb_on", on.peaks.activations / MB)
    report.figure(f"{name}_saved_pct", 100 * (1 - on.peaks.activations / off.peaks.activations))
    return off, on


def _measured(case: Case, again: bool, *, quick: bool) -> Measured:
    peaks, resident = run_ranks(1, memory_rank, case, again, True, timeout_s=300.0)[0]
    by_default = 0 if quick else run_ranks(1, memory_rank, case, again, False, timeout_s=300.0)[0][1]
    return Measured(peaks, resident, by_default)


def memory_rank(case: Case, again: bool, at_once: bool) -> tuple[Peaks, int]:
    """In a process of its own: the peaks that the ledger counts, and the growth of the process, of one step each."""
    if at_once:
        return_memory_at_once()
    torch.set_num_threads(THREADS)
    module, runtime, inputs, targets = _ready(case, again)
    # What is loaded on first use is loaded; a batch of one leaves little behind in the allocator.
    runtime.backward(inputs[:1], targets[:1], 1)
    module.zero_grad(set_to_none=True)
    step = partial(runtime.backward, inputs, targets)
    resident = resident_peak(step)
    return peaks_of(step, module, (inputs, targets)), resident


def _times(report: Report, name: str, case: Case, pairs: int) -> None:
    report.say(f"{name}: time")
    off, on, predicted = run_ranks(1, time_rank, case, pairs, timeout_s=900.0)[0]
    slower = [100 * (b / a - 1) for a, b in zip(off, on, strict=True)]
    report.figure(f"{name}_slowdown_pct", statistics.median(slower))
    report.figure(f"{name}_step_s_off", statistics.median(off))
    report.figure(f"{name}_step_s_on", statistics.median(on))
    report.sample(f"{name}_slowdown_pct", slower)
    for mode, prediction in zip(("off", "on"), predicted, strict=True):
        report.figure(f"{name}_predicted_mb_{mode}", _kept(prediction) / MB)
    report.figure(f"{name}_predicted_slowdown_pct", 100 * (predicted[1].step_s / predicted[0].step_s - 1))


def time_rank(case: Case, pairs: int) -> tuple[list[float], list[float], tuple[Prediction, Prediction]]:
    """Seconds of training steps without and with recomputation, turn by turn, and what the planner expects of both."""
    torch.set_num_threads(THREADS)
    module, plain, inputs, targets = _ready(case, False)
    predictions = _predicted(module, case, inputs)
    again = _ready(case, True)[1]
    modes = (plain, again)
    taken: tuple[list[float], list[float]] = ([], [])
    losses = [float(runtime.train_step(inputs, targets)) for runtime in modes]
    if abs(losses[0] / losses[1] - 1) > LOSSES_AGREE:
        raise AssertionError(f"the two do not train alike: {losses}")
    for pair in range(pairs):
        for mode in (0, 1) if pair % 2 else (1, 0):
            began = time.perf_counter()
            modes[mode].train_step(inputs, targets)
            taken[mode].append(time.perf_counter() - began)
    return *taken, predictions


def _predicted(module: nn.Module, case: Case, inputs: Tensor) -> tuple[Prediction, Prediction]:
    """Bytes from a trace that computes nothing, seconds from the times of single blocks."""
    profile = with_times(trace(module, inputs), module, inputs, DEVICE, sizes=(case.batch,), repeats=2)
    costs = StepCosts(profile, one_device())
    off, on = (costs.predict(_plan(module, case, again)) for again in (False, True))
    return off, on


def _ready(case: Case, again: bool) -> tuple[nn.Module, Runtime, Tensor, Tensor]:
    torch.manual_seed(1)
    module = build(case.architecture, case.settings, case.shape, case.classes)
    if case.vocabulary:
        inputs = torch.randint(0, case.vocabulary, (case.batch, *case.shape))
    else:
        inputs = torch.randn(case.batch, *case.shape)
    targets = torch.randint(0, case.classes, (case.batch,))
    return module, apply(module, _plan(module, case, again), optimizer=_sgd, loss=_loss), inputs, targets


def _plan(module: nn.Module, case: Case, again: bool) -> ParallelPlan:
    blocks = len(chain_of(module).blocks)
    return ParallelPlan(global_batch=case.batch, recompute=(True,) * blocks if again else ())


def _sgd(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    """Without state, so that nothing but gradients comes with a step; too slow to change what is computed."""
    return torch.optim.SGD(groups, lr=1e-6)


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum")


def _kept(prediction: Prediction) -> float:
    return prediction.memory.activations + prediction.memory.recomputation


def _tell(report: Report, name: str, off: Measured, on: Measured) -> None:
    case, figures = _sized(report, name), report.figures
    inputs = f"{case.shape[0]} tokens" if case.vocabulary else "x".join(map(str, case.shape))
    predicted = ", ".join(
        f"{mode} {figures[f'{name}_predicted_mb_{mode}']:.0f} MB"
        f" ({100 * (figures[f'{name}_predicted_mb_{mode}'] / figures[f'{name}_peak_mb_{mode}'] - 1):+.1f} %)"
        for mode in ("off", "on")
    )
    report.note(f"{name}: batch {case.batch} of {inputs}, float32, SGD, {THREADS} threads, every block recomputed")
    report.note(f"{name}, predicted and by how much that is off: {predicted}")
    report.note(f"{name}, with gradients of parameters, counted: {_pair(lambda m: m.peaks.total, off, on)}")
    report.note(f"{name}, growth of the resident memory: {_pair(lambda m: m.resident, off, on)}")
    if off.resident_by_default:
        told = _pair(lambda m: m.resident_by_default, off, on)
        report.note(f"{name}, the same with glibc's default thresholds, which keep freed memory: {told}")


def _pair(of: Callable[[Measured], int], off: Measured, on: Measured) -> str:
    return f"{of(off) / MB:.0f} MB off, {of(on) / MB:.0f} MB on ({100 * (1 - of(on) / of(off)):.0f} % less)"
