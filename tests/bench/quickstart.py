"""The main job: from `up` to ready, and the digits pipeline from submission to its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from tests.bench.platforms import directory, options
from tests.bench.report import Report


def run(report: Report) -> None:
    """A first run makes the state; the runs that count start from it."""
    runs = 1 if report.quick else 3
    with directory() as home:
        first = _quickstart(str(home))
        report.say(f"first run: ready in {first['seconds_ready']:.1f} s, pipeline {first['seconds_pipeline']:.1f} s")
        results = [_quickstart(str(home)) for _ in range(runs)]
    for key in ("seconds_ready", "seconds_pipeline", "accuracy"):
        values = [float(result[key]) for result in results]
        report.sample(key, values)
        report.figure(key, sorted(values)[len(values) // 2])
    report.figure("seconds_ready_first", float(first["seconds_ready"]))
    report.note("warm: the state directory and the page cache are there; first: nothing of the state is")


def _quickstart(home: str) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "sextant", "quickstart", "--once", "--json", "--port", str(options().port)],
        env={**os.environ, "SEXTANT_HOME": home},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"quickstart failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout)
    return result
