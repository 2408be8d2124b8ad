"""`scripts/bench`: finds the benchmark and runs it."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

from tests.bench.report import Bench, Report

BENCHES = {
    "quickstart": "tests.bench.quickstart",
    "idle": "tests.bench.idle",
    "submit": "tests.bench.submit",
    "load": "tests.bench.load",
    "dispatch": "tests.bench.dispatch",
    "train-start": "tests.bench.train_start",
    "parallel-equal": "tests.bench.parallel_equal",
    "parallel-overhead": "tests.bench.parallel_overhead",
    "plan-published": "tests.bench.plan_published",
    "plan-speed": "tests.bench.plan_speed",
    "plan-measured": "tests.bench.plan_measured",
    "rebalance": "tests.bench.rebalance",
    "gang": "tests.bench.gang",
    "checkpointing": "tests.bench.checkpointing",
    "resnet152": "tests.bench.resnet152",
    "prepare": "tests.bench.prepare",
    "simulate": "tests.bench.simulate",
    "mutants": "tests.bench.mutants",
    "soak": "tests.bench.soak",
    "chaos": "tests.bench.chaos",
    "forecast": "tests.bench.forecast",
    "intents": "tests.bench.intents",
    "audit": "tests.bench.audit",
    "tabular": "tests.bench.tabular",
    "anomaly": "tests.bench.anomaly",
    "images": "tests.bench.images",
    "pcb": "tests.bench.pcb",
    "load-data": "tests.bench.load_data",
    "fuzz": "tests.bench.fuzz",
}


def main(arguments: list[str]) -> int:
    """Run the benchmark that the arguments name; the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Runs one benchmark.", add_help=False)
    parser.add_argument("name", nargs="?", choices=sorted(BENCHES), metavar="NAME", help=", ".join(sorted(BENCHES)))
    parser.add_argument("--list", action="store_true", help="name all benchmarks")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: an answer within a minute")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    name = parser.parse_known_args(arguments)[0].name
    own = getattr(import_module(BENCHES[name]), "OPTIONS", {}) if name else {}
    parser.set_defaults(own=[])
    for option, text in own.items():
        parser.add_argument(f"--{option}", action="append_const", const=option, dest="own", help=text)
    parser.add_argument("--help", action="help", help="show this")
    options = parser.parse_args(arguments)
    if options.list:
        for known, module in sorted(BENCHES.items()):
            sys.stdout.write(f"{known:<18}{(import_module(module).__doc__ or '').splitlines()[0]}\n")
        return 0
    if name is None:
        parser.error("give the NAME of a benchmark, or --list")
    report = Report(name, quick=options.quick, options=frozenset(options.own))
    bench: Bench = import_module(BENCHES[name]).run
    bench(report)
    report.print(as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
