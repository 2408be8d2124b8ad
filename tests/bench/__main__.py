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
    "dispatch": "tests.bench.dispatch",
    "train-start": "tests.bench.train_start",
    "parallel-equal": "tests.bench.parallel_equal",
    "parallel-overhead": "tests.bench.parallel_overhead",
    "plan-published": "tests.bench.plan_published",
    "plan-speed": "tests.bench.plan_speed",
    "plan-measured": "tests.bench.plan_measured",
    "rebalance": "tests.bench.rebalance",
}


def main(arguments: list[str]) -> int:
    """Run the benchmark that the arguments name; the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Runs one benchmark.")
    parser.add_argument("name", nargs="?", choices=sorted(BENCHES), metavar="NAME", help=", ".join(sorted(BENCHES)))
    parser.add_argument("--list", action="store_true", help="name all benchmarks")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: an answer within a minute")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--peers", action="store_true", help="submit: Ray Jobs and MLflow beside ours")
    options = parser.parse_args(arguments)
    if options.list:
        for name, module in sorted(BENCHES.items()):
            sys.stdout.write(f"{name:<14}{(import_module(module).__doc__ or '').splitlines()[0]}\n")
        return 0
    if options.name is None:
        parser.error("give the NAME of a benchmark, or --list")
    if options.peers and options.name != "submit":
        parser.error("--peers goes with submit")
    bench: Bench = import_module(BENCHES[options.name]).run
    report = Report(options.name, quick=options.quick, peers=options.peers)
    bench(report)
    report.print(as_json=options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
