"""Says in words why a plan was chosen, what it is expected to cost, and why not the others."""

from __future__ import annotations

from sextant_planner.cost.memory import Memory
from sextant_planner.cost.step import Breakdown, Prediction
from sextant_planner.plan import AXES, ParallelPlan, Sharding
from sextant_planner.search.engine import Candidate, Choice

GB = 1e9


def explain(choice: Choice) -> str:
    """The whole story of a choice as plain text."""
    best = choice.best
    lines = [
        f"Plan for {choice.model} on {choice.cluster}",
        "",
        f"  {best.plan.describe()}",
        f"  mesh: {_mesh(best.plan)}; global batch {best.plan.global_batch}",
        f"  predicted: {_rates(best.prediction)}",
        "",
        "Time of a step",
        *_time(best.prediction),
        "",
        "Memory of the fullest device",
        *_memory(best.prediction),
        "",
        "Why this one",
        *_why(choice),
    ]
    if len(choice.candidates) > 1:
        lines += ["", "Next best", *_others(choice)]
    if choice.rejections:
        lines += ["", "Not taken"]
        lines += [f"  {r.count} x {r.reason}, such as: {r.example}" for r in choice.rejections]
    lines += [
        "",
        f"{choice.searched} combinations bounded, {choice.priced} priced, in {choice.seconds:.2f} s; {_whole(choice)}",
    ]
    return "\n".join(lines) + "\n"


def _rates(prediction: Prediction) -> str:
    share = f"{prediction.model_flops_utilisation:.1%} of the devices' peak"
    return f"{_seconds(prediction.step_s)} a step, {prediction.samples_per_s:.4g} samples/s, {share}"


def _mesh(plan: ParallelPlan) -> str:
    return " x ".join(f"{axis} {getattr(plan, axis)}" for axis in AXES if getattr(plan, axis) > 1) or "one device"


def _time(prediction: Prediction) -> list[str]:
    names = {
        "compute": "forward and backward passes",
        "recompute": "computing activations again",
        "tensor": "communication inside blocks",
        "pipeline": "pipeline: waiting and sending",
        "data": "reducing gradients, not hidden",
        "optimizer": "optimizer",
    }
    return [
        f"  {text:<32}{_seconds(getattr(prediction.breakdown, name)):>12}"
        f"{getattr(prediction.breakdown, name) / prediction.step_s:>8.1%}"
        for name, text in names.items()
        if getattr(prediction.breakdown, name) > 0
    ]


def _memory(prediction: Prediction) -> list[str]:
    memory = prediction.memory
    rows = [(name, getattr(memory, name)) for name in Memory.model_fields]
    lines = [f"  {name:<32}{_bytes(value):>12}" for name, value in rows if value > 0]
    share = memory.total / prediction.memory_limit
    return [*lines, f"  {'total':<32}{_bytes(memory.total):>12}{share:>8.1%} of {_bytes(prediction.memory_limit)}"]


def _why(choice: Choice) -> list[str]:
    best = choice.best
    lines = []
    if best.plan.tp == best.plan.pp == best.plan.cp == 1 and best.plan.world > 1:
        what = "Plain" if best.plan.sharding is Sharding.NONE else "Sharded"
        lines.append(f"  {what} data parallelism: what it moves is little, or hidden behind the backward pass.")
    largest = max(Breakdown.model_fields, key=lambda name: getattr(best.prediction.breakdown, name))
    lines.append(f"  Most of the step is {largest}; the ideal with no communication, no waiting and nothing computed")
    ideal = best.prediction.breakdown.compute
    lines.append(f"  twice would take {_seconds(ideal)}: {ideal / best.prediction.step_s:.1%} of that is reached.")
    if best.measured_s is not None:
        tried = sum(candidate.measured_s is not None for candidate in choice.candidates)
        error = best.prediction.step_s / best.measured_s - 1
        lines.append(
            f"  The fastest of {tried} that were tried: {_seconds(best.measured_s)} a step, which was"
            f" predicted {error:+.1%} off."
        )
    elif len(choice.candidates) > 1:
        second = choice.candidates[1]
        gain = second.prediction.step_s / best.prediction.step_s - 1
        lines.append(f"  {gain:.1%} faster than the next best.")
    return lines


def _others(choice: Choice) -> list[str]:
    best = choice.best.prediction.step_s
    return [
        f"  {other.prediction.step_s / best - 1:+7.1%}  {other.plan.describe()}: {_difference(other, choice.best)}"
        + (f"; tried: {_seconds(other.measured_s)}" if other.measured_s is not None else "")
        for other in choice.candidates[1:]
    ]


def _difference(other: Candidate, best: Candidate) -> str:
    """What the other plan spends more on."""
    more = {
        name: getattr(other.prediction.breakdown, name) - getattr(best.prediction.breakdown, name)
        for name in Breakdown.model_fields
    }
    name = max(more, key=lambda key: more[key])
    return f"{_seconds(more[name])} more {name}" if more[name] > 0 else "the same"


def _whole(choice: Choice) -> str:
    return (
        "no plan that was not priced can be better" if choice.complete else "the search ended early, at its time limit"
    )


def _seconds(value: float) -> str:
    if value >= 1:
        return f"{value:.3f} s"
    return f"{1e3 * value:.2f} ms" if value >= 1e-3 else f"{1e6 * value:.1f} us"


def _bytes(value: float) -> str:
    return f"{value / GB:.2f} GB" if value >= 0.1 * GB else f"{value / 1e6:.2f} MB"
