"""A gang over three hosts with shaped links and no shared disk: one is killed, one is cut off. Needs root."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.bench import platforms, shaped
from tests.bench.report import Report

HOSTS = 3
MBIT = 200.0
TIMEOUT_S = 1200.0


def run(report: Report) -> None:
    """The driver is on the first host, with the servers and one trainer; the others have a trainer each."""
    if reason := shaped.unavailable():
        report.note(f"not run: {reason}")
        return
    with shaped.hosts(HOSTS, MBIT) as hosts, platforms.directory() as directory, tempfile.TemporaryDirectory() as out:
        answer = Path(out) / "answer.json"
        words = [str(directory), str(answer), "quick" if report.quick else "full", *(words[-1] for words in hosts)]
        command = [*hosts[0], sys.executable, "-m", "tests.bench.gang_driver", *words]
        done = subprocess.run(command, check=False, timeout=TIMEOUT_S)
        if done.returncode:
            raise SystemExit(f"the driver ended with status {done.returncode}")
        found = json.loads(answer.read_text())
    calm = found.pop("calm")
    for name, case in found.items():
        _tell(report, name, case, calm)
    report.figure("checkpoint_interval", calm["every"])
    report.sample("calm_val_loss", calm["curve"])
    report.note(f"network namespaces joined by {MBIT:.0f} Mbit/s; each trainer on a tmpfs of its own, artefacts on S3")
    report.note(f"three ranks, two after the loss; leases of {calm['lease_s']:.0f} s; {calm['plan']} before")
    report.note("killed: kill -9 of all that runs on a host; cut: its link goes down, and what runs there goes on")
    report.note("stale_ranks_s: how long before the next claim the last rank of the lost host was gone")


def _tell(report: Report, name: str, case: dict[str, Any], calm: dict[str, Any]) -> None:
    report.figure(f"{name}_seconds_to_first_step", case["resumed_at"] - case["struck_at"])
    report.figure(f"{name}_steps_recomputed", case["last_step"] - case["first_step"] + 1)
    report.figure(f"{name}_loss_diff", max(abs(a - b) for a, b in zip(case["curve"], calm["curve"], strict=True)))
    report.figure(f"{name}_stale_ranks_s", case["claimed_at"] - case["gone_at"])
    report.sample(f"{name}_val_loss", case["curve"])
    report.note(f"{name}: {case['reason']}; then {case['plan']}")
