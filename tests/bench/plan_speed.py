"""How long the planner searches for 8, 256 and 4,096 devices: no device is needed, and none is used."""

from __future__ import annotations

import statistics

from sextant_planner import catalogue
from sextant_planner.plan import Precision
from sextant_planner.search.engine import search
from sextant_planner.search.space import Wishes
from sextant_planner.transformer import transformer
from tests.bench.report import Report

CASES = (
    (8, {"hidden": 4096, "layers": 32, "heads": 32}, 64),
    (256, {"hidden": 10240, "layers": 60, "heads": 80}, 1024),
    (4096, {"hidden": 25600, "layers": 128, "heads": 160}, 4096),
)


def run(report: Report) -> None:
    """GPT of 7, 76 and 1,008 billion parameters; each search starts with nothing cached."""
    for devices, dimensions, batch in CASES:
        model = transformer("gpt", sequence=2048, vocabulary=51_200, recompute_core=True, **dimensions)
        cluster = catalogue.cluster("a100-80gb", devices)
        wishes = Wishes(global_batch=batch, precision=Precision.BFLOAT16)
        choices = [search(model, cluster, wishes) for _ in range(1 if report.quick else 5)]
        seconds = [choice.seconds for choice in choices]
        report.figure(f"seconds_{devices}", statistics.median(seconds))
        report.sample(f"seconds_{devices}", seconds)
        best = choices[0].best
        told = f"{choices[0].searched} combinations, {choices[0].priced} priced, complete: {choices[0].complete}"
        report.note(f"{devices} devices, {model.parameters / 1e9:.0f}B: {best.plan.describe()}; {told}")
