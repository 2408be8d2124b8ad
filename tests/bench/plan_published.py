"""Published iteration times, predicted from public constants: Korthikanti table 5, SC21 table 1, torchtitan."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import fmean

from sextant_planner import catalogue
from sextant_planner.cluster import Cluster
from sextant_planner.cost.step import Prediction, StepCosts
from sextant_planner.plan import ParallelPlan, Precision, Schedule
from sextant_planner.traits import MEGATRON_2021, MEGATRON_2022, RuntimeTraits
from sextant_planner.transformer import transformer
from tests.bench.published import CALCULON, KORTHIKANTI, SC21, SEQUENCE, VOCABULARY, Run
from tests.bench.report import Report
from tests.bench.torchtitan import tell as tell_torchtitan

ClusterOf = Callable[[int], Cluster]
DEVICE = "a100-80gb"
FITTED = ("product_ceiling", "product_half_inner")
DEVICE_CONSTANTS = (*FITTED, "memory_efficiency", "memory_bandwidth", "kernel_s")
LINK_CONSTANTS = ("bandwidth", "latency_s")


def run(report: Report) -> None:
    """Fit two constants to SC21 table 1, predict the eight points of Korthikanti table 5, then move each constant."""
    fitted = _fit(report)
    errors = korthikanti_errors(fitted)
    calculon = [abs(error) for pair in CALCULON for error in pair]
    report.figure("mean_error_pct", fmean(map(abs, errors)))
    report.figure("max_error_pct", max(map(abs, errors)))
    report.figure("calculon_mean_error_pct", fmean(calculon))
    report.figure("calculon_max_error_pct", max(calculon))
    report.figure("sc21_mean_error_pct", fmean(map(abs, sc21_errors(fitted))))
    report.sample("korthikanti_error_pct", errors)
    report.sample("sc21_error_pct", sc21_errors(fitted))
    _tell(report, errors, fitted)
    tell_torchtitan(report, fitted)
    _sensitivity(report, fitted)


def predict(run_: Run, cluster: Cluster, traits: RuntimeTraits, *, selective: bool) -> Prediction:
    """One published run, as it was run."""
    model = transformer(
        run_.name,
        hidden=run_.hidden,
        layers=run_.layers,
        heads=run_.heads,
        sequence=SEQUENCE,
        vocabulary=VOCABULARY,
        recompute_core=selective,
    )
    blocks = len(model.blocks)
    plan = ParallelPlan(
        dp_replicate=run_.dp,
        tp=run_.tp,
        pp=run_.pp,
        schedule=Schedule.INTERLEAVED if run_.virtual > 1 else Schedule.ONE_F_ONE_B,
        virtual_stages=run_.virtual,
        global_batch=run_.batch,
        microbatches=run_.batch // run_.dp // run_.micro,
        stages=_stages(run_, blocks),
        recompute=() if selective else tuple(0 < index < blocks - 1 for index in range(blocks)),
        sequence_parallel=selective and run_.tp > 1,
        precision=Precision.BFLOAT16,
    )
    return StepCosts(model, cluster, traits).predict(plan)


def sc21_errors(cluster_of: ClusterOf) -> list[float]:
    """Percent by which the predicted throughput is off, a row of SC21 table 1."""
    errors = []
    for run_, teraflops in SC21:
        seconds = predict(run_, cluster_of(run_.gpus), MEGATRON_2021, selective=False).step_s
        errors.append(100 * (run_.flops / seconds / run_.gpus / 1e12 / teraflops - 1))
    return errors


def korthikanti_errors(cluster_of: ClusterOf) -> list[float]:
    """Percent by which the predicted time is off, for both runs of each row of Korthikanti table 5."""
    errors = []
    for run_, full_s, selective_s in KORTHIKANTI:
        for selective, published_s in ((False, full_s), (True, selective_s)):
            seconds = predict(run_, cluster_of(run_.gpus), MEGATRON_2022, selective=selective).step_s
            errors.append(100 * (seconds / published_s - 1))
    return errors


def _stages(run_: Run, blocks: int) -> tuple[tuple[int, int], ...]:
    """Layers shared out evenly, the embedding with the first and the output layer with the last."""
    parts = run_.pp * run_.virtual
    each = run_.layers // parts
    ranges = [(1 + part * each, 1 + (part + 1) * each) for part in range(parts)]
    ranges[0] = (0, ranges[0][1])
    ranges[-1] = (ranges[-1][0], blocks)
    return tuple(ranges)


def _with(constants: dict[str, float], link: tuple[str, str, float] | None = None) -> ClusterOf:
    """The catalogue's cluster with some constants changed."""

    def cluster_of(devices: int) -> Cluster:
        base = catalogue.cluster(DEVICE, devices)
        device = base.devices[0].model_copy(update=constants)
        links = tuple(
            each.model_copy(update={link[1]: getattr(each, link[1]) * link[2]})
            if link is not None and each.name == link[0]
            else each
            for each in base.links
        )
        return base.model_copy(update={"devices": (device,), "links": links})

    return cluster_of


def _fit(report: Report) -> ClusterOf:
    """Least squares of the logarithms over SC21 table 1, by a pattern search in the two constants."""

    def loss(values: tuple[float, float]) -> float:
        errors = sc21_errors(_with(dict(zip(FITTED, values, strict=True))))
        return sum(math.log1p(error / 100) ** 2 for error in errors)

    point, widths = (0.8, 300.0), (0.05, 100.0)
    best = loss(point)
    while widths[0] > (0.004 if report.quick else 0.0005):
        steps = [(dx * widths[0], dy * widths[1]) for dx in (-1, 0, 1) for dy in (-1, 0, 1) if dx or dy]
        tried = {(point[0] + dx, max(0.0, point[1] + dy)): 0.0 for dx, dy in steps}
        tried = {key: loss(key) for key in tried if key[0] <= 1}
        nearest = min(tried, key=lambda key: tried[key])
        if tried[nearest] < best:
            point, best = nearest, tried[nearest]
        else:
            widths = (widths[0] / 2, widths[1] / 2)
    report.say(f"fitted to SC21 table 1: ceiling {point[0]:.4f}, half inner size {point[1]:.1f}")
    report.figure("product_ceiling", point[0])
    report.figure("product_half_inner", point[1])
    return _with(dict(zip(FITTED, point, strict=True)))


def _tell(report: Report, errors: list[float], cluster_of: ClusterOf) -> None:
    for (run_, *published), ours, theirs in zip(
        KORTHIKANTI, zip(errors[::2], errors[1::2], strict=True), CALCULON, strict=True
    ):
        told = ", ".join(
            f"{how} {seconds:.2f} s: {error:+.1f} % (Calculon {other:+.1f} %)"
            for how, seconds, error, other in zip(("full", "selective"), published, ours, theirs, strict=True)
        )
        report.note(f"Korthikanti table 5, {run_.name}: {told}")
    rows = zip(SC21, sc21_errors(cluster_of), strict=True)
    report.note("SC21 table 1 (fitted): " + ", ".join(f"{run_.name} {error:+.1f} %" for (run_, _), error in rows))
    entry = catalogue.node(DEVICE)
    for source in (
        entry.device.source,
        f"{entry.inside.name}: {entry.inside.source}",
        f"{entry.between.name}: {entry.between.source}",
    ):
        report.note(f"constants: {source}")


def _sensitivity(report: Report, cluster_of: ClusterOf) -> None:
    """The mean error with each constant 10 % lower and higher, nothing fitted again."""
    device = cluster_of(8).devices[0]
    fitted = {name: getattr(device, name) for name in FITTED}
    for name in DEVICE_CONSTANTS:
        pair = [
            _mean(
                _with(
                    {
                        **fitted,
                        name: min(1.0, getattr(device, name) * factor)
                        if name == "product_ceiling"
                        else getattr(device, name) * factor,
                    }
                )
            )
            for factor in (0.9, 1.1)
        ]
        report.note(f"sensitivity: {name} -10 % -> mean error {pair[0]:.2f} %, +10 % -> {pair[1]:.2f} %")
    for link in catalogue.cluster(DEVICE, 64).links:
        for name in LINK_CONSTANTS:
            pair = [_mean(_with(fitted, (link.name, name, factor))) for factor in (0.9, 1.1)]
            report.note(
                f"sensitivity: {link.name} {name} -10 % -> mean error {pair[0]:.2f} %, +10 % -> {pair[1]:.2f} %"
            )


def _mean(cluster_of: ClusterOf) -> float:
    return fmean(map(abs, korthikanti_errors(cluster_of)))
