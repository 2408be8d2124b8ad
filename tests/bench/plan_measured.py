"""Predicted against measured step times of feasible plans, on hosts with shaped links and slept compute. Needs root."""

from __future__ import annotations

import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sextant_planner.cluster import Cluster
from sextant_planner.cost.step import StepCosts
from sextant_planner.model import ModelProfile
from sextant_planner.plan import ParallelPlan
from sextant_planner.search.completion import complete
from sextant_planner.search.space import Wishes, plans
from tests.bench import emulated, shaped
from tests.bench.report import Report

SAMPLES = 4
"""Of the global batch for each rank: eight ranks have no less to do than four."""
WORLDS = (4, 8)
OPTIONS = {f"ranks-{size}": f"{size} ranks alone" for size in WORLDS}
LINKS_MBIT = (100.0, 300.0, 1000.0)
SLOWED = {4: 2.0, 8: 6.0}
"""By ranks, compute and links alike: what they do on the cores that they share then weighs as on cores of their own."""
PASS_S, STEPS = 2.0, (1, 3)
"""A pass over a plan takes as many steps as fit these seconds, within these limits."""
TIMEOUT_S = 5400.0


@dataclass(frozen=True)
class Scored:
    """A plan with what was predicted, and what every step took."""

    plan: ParallelPlan
    predicted_s: float
    steps_s: tuple[float, ...]

    @property
    def measured_s(self) -> float:
        """The median step."""
        return statistics.median(self.steps_s)

    def interval(self) -> tuple[float, float]:
        """95 % of the median, by bootstrap."""
        draw = random.Random(0)
        medians = sorted(statistics.median(draw.choices(self.steps_s, k=len(self.steps_s))) for _ in range(400))
        return medians[10], medians[389]


def run(report: Report) -> None:
    """Profile in one run, predict, and measure a stratified sample of all feasible plans in another."""
    if reason := shaped.unavailable():
        report.note(f"not run: {reason}")
        return
    asked = tuple(size for size in WORLDS if f"ranks-{size}" in report.options) or WORLDS
    worlds, links = (asked[:1], LINKS_MBIT[1:2]) if report.quick else (asked, LINKS_MBIT)
    models = list(emulated.SHAPES)[:2] if report.quick else list(emulated.SHAPES)
    count = 6 if report.quick else 8
    cells: list[tuple[str, list[Scored]]] = []
    for size in worlds:
        profiles = _profiles(size, models)
        for mbit in links:
            cluster = _measured_cluster(size, mbit / SLOWED[size], repeats=3 if report.quick else 7)
            chosen = {name: _sample(profiles[name], cluster, count) for name in models}
            measured = _run_plans(size, mbit / SLOWED[size], chosen)
            for name in models:
                cell = [Scored(p, s, tuple(t)) for (p, s), t in zip(chosen[name], measured[name], strict=True)]
                cells.append((f"{size} ranks, {mbit:.0f} Mbit/s, {name}", cell))
                report.say(_line(*cells[-1]))
    _tell(report, cells)


def _profiles(size: int, models: Sequence[str]) -> dict[str, ModelProfile]:
    """By all ranks at once, as they will run: software takes longer where eight processes share two cores."""
    found = _ranks(size, None, [{"what": "profile", "model": name, "slowed": SLOWED[size]} for name in models])
    return {name: ModelProfile.from_json(text) for name, text in zip(models, found, strict=True)}


def _sample(model: ModelProfile, cluster: Cluster, count: int) -> list[tuple[ParallelPlan, float]]:
    """Plans from every part of the range of predicted times, the best and all-data-parallel among them."""
    costs = StepCosts(model, cluster)
    found: list[tuple[ParallelPlan, float]] = []
    for bare in plans(model, cluster, Wishes(global_batch=SAMPLES * cluster.size)):
        whole = complete(bare, costs, may_recompute=False, reserve=0.0)
        if whole is not None:
            plan = ParallelPlan.model_validate(whole.model_dump())
            found.append((plan, costs.predict(plan).step_s))
    found.sort(key=lambda item: item[1])
    last = len(found) - 1
    picked = {round(index * last / (count - 3)) for index in range(count - 2)} | {1 if last else 0}
    picked.add(next(i for i, (plan, _) in enumerate(found) if plan.dp_replicate == cluster.size))
    return [found[index] for index in sorted(picked)]


def _measured_cluster(size: int, mbit: float, repeats: int) -> Cluster:
    (text,) = _ranks(size, mbit, [{"what": "cluster", "repeats": repeats}])
    return Cluster.from_json(text)


def _run_plans(
    size: int, mbit: float, chosen: dict[str, list[tuple[ParallelPlan, float]]]
) -> dict[str, list[list[float]]]:
    """Two passes in opposite order, so that what drifts falls on all plans alike."""
    jobs = [
        {
            "what": "plan",
            "model": name,
            "slowed": SLOWED[size],
            "plan": plan.to_json(),
            "steps": _steps(predicted),
        }
        for name, some in chosen.items()
        for plan, predicted in some
    ]
    answers = [json.loads(text) for text in _ranks(size, mbit, [*jobs, *reversed(jobs)])]
    both = [first + second for first, second in zip(answers[: len(jobs)], reversed(answers[len(jobs) :]), strict=True)]
    taken = iter(both)
    return {name: [next(taken) for _ in some] for name, some in chosen.items()}


def _steps(predicted_s: float) -> int:
    least, most = STEPS
    return max(least, min(most, math.ceil(PASS_S / predicted_s)))


def _ranks(size: int, mbit: float | None, jobs: Sequence[dict[str, Any]]) -> list[str]:
    with tempfile.TemporaryDirectory() as directory, shaped.hosts(size, mbit) as prefixes:
        (Path(directory) / "jobs.json").write_text(json.dumps(list(jobs)))
        command = [sys.executable, "-m", "tests.bench.plan_measured_rank"]
        processes = [
            subprocess.Popen([*prefix, *command, str(rank), str(size), directory])
            for rank, prefix in enumerate(prefixes)
        ]
        try:
            codes = [process.wait(TIMEOUT_S) for process in processes]
        finally:
            for process in processes:
                process.kill()
        if any(codes):
            raise SystemExit(f"ranks ended with {codes}")
        return [(Path(directory) / f"result-{number}.json").read_text() for number in range(len(jobs))]


def _tell(report: Report, cells: list[tuple[str, list[Scored]]]) -> None:
    errors = [abs(s.predicted_s / s.measured_s - 1) for _, cell in cells for s in cell]
    regrets = [_regret(cell, min(cell, key=lambda s: s.predicted_s)) for _, cell in cells]
    report.figure("mape", 100 * statistics.fmean(errors))
    report.figure("p90_error_pct", 100 * sorted(errors)[int(0.9 * len(errors))])
    report.figure("spearman", statistics.fmean(_spearman(cell) for _, cell in cells))
    report.figure("regret_mean", 100 * statistics.fmean(regrets))
    report.figure("regret_max", 100 * max(regrets))
    report.figure("ties", sum(_tied(cell) for _, cell in cells))
    report.figure("plans", len(errors))
    for name, pick in (("all_dp", _all_dp), ("megatron", _megatron)):
        report.figure(f"regret_mean_{name}", 100 * statistics.fmean(_regret(cell, pick(cell)) for _, cell in cells))
    random_regrets = [statistics.fmean(_regret(cell, each) for each in cell) for _, cell in cells]
    report.figure("regret_mean_random", 100 * statistics.fmean(random_regrets))
    for name, cell in cells:
        report.note(_line(name, cell))
        report.sample(f"{name}: predicted_s", [s.predicted_s for s in cell])
        report.sample(f"{name}: measured_s", [s.measured_s for s in cell])
    report.note("compute is slept, messages are real; links shaped by tbf between network namespaces")
    slowed = ", ".join(f"{times:g} times with {size} ranks" for size, times in SLOWED.items())
    report.note(f"compute and links are slowed, {slowed}: ranks share {os.cpu_count()} cores; seconds are as measured")
    report.note("a stratified sample of the feasible plans: even steps through the range of predicted times")


def _line(name: str, cell: list[Scored]) -> str:
    error = 100 * statistics.fmean(abs(s.predicted_s / s.measured_s - 1) for s in cell)
    chosen = min(cell, key=lambda s: s.predicted_s)
    regret = 100 * _regret(cell, chosen)
    told = f"{chosen.plan.describe()} at {chosen.measured_s:.3f} s"
    return (
        f"{name}: {len(cell)} plans, error {error:.1f} %, spearman {_spearman(cell):.2f}, regret {regret:.1f} %, {told}"
    )


def _regret(cell: list[Scored], chosen: Scored) -> float:
    """How much slower a plan is than the best that was measured; none where the two cannot be told apart."""
    best = min(cell, key=lambda s: s.measured_s)
    if chosen.interval()[0] <= best.interval()[1]:
        return 0.0
    return chosen.measured_s / best.measured_s - 1


def _tied(cell: list[Scored]) -> bool:
    best = min(cell, key=lambda s: s.measured_s)
    chosen = min(cell, key=lambda s: s.predicted_s)
    return chosen is not best and chosen.interval()[0] <= best.interval()[1]


def _all_dp(cell: list[Scored]) -> Scored:
    return next(s for s in cell if s.plan.dp_replicate == s.plan.world)


def _megatron(cell: list[Scored]) -> Scored:
    """Narayanan et al., SC21: as much model parallelism as memory needs, which here is none, and data for the rest."""
    return min(cell, key=lambda s: (s.plan.tp * s.plan.pp, s.plan.microbatches))


def _spearman(cell: list[Scored]) -> float:
    predicted, measured = _ranked([s.predicted_s for s in cell]), _ranked([s.measured_s for s in cell])
    return statistics.correlation(predicted, measured) if len(cell) > 2 else 1.0


def _ranked(values: list[float]) -> list[float]:
    order = sorted(range(len(values)), key=lambda index: values[index])
    ranks = [0.0] * len(values)
    for rank, index in enumerate(order):
        ranks[index] = float(rank)
    return ranks
