"""The scheduler's code on a model of its servers: seeds tried, and invariants broken."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.bench.report import Report
from tests.simulation.run import explain, run_seeds
from tests.simulation.world import STEPS

SEEDS = 20_000
QUICK_SEEDS = 1_000
PROGRAM = "import sys; from tests.simulation.run import run_seeds; print(run_seeds(0, int(sys.argv[1])).digest)"


def run(report: Report) -> None:
    """All seeds, and beside it all of them in another process, whose trace must be the same."""
    number = QUICK_SEEDS if report.quick else SEEDS
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", PROGRAM, str(number)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as other:
        outcome = run_seeds(0, number, say=report.say)
        again = other.communicate()[0].strip()
    report.figure("seeds", outcome.seeds)
    report.figure("steps", STEPS)
    report.figure("seeds_per_second", outcome.seeds / outcome.seconds)
    report.figure("violations", len(outcome.failures))
    report.figure("same_trace", float(again == outcome.digest))
    report.note(f"trace {outcome.digest}; of a second run in another process, at the same time, {again}")
    report.note(f"{STEPS} turns under faults a seed, then calm ones until every job has ended")
    report.note(f"0 of {outcome.seeds} bounds the share of seeds that break something at {300 / outcome.seeds:.3g} %")
    for seed in list(outcome.failures)[:3]:
        report.say(explain(seed))
