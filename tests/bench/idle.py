"""The whole idle platform: proportional set size, CPU, processes."""

from __future__ import annotations

import time

import psutil

from tests.bench.platforms import whole
from tests.bench.report import Report


def run(report: Report) -> None:
    """After everything is ready, the zygote included, and has settled."""
    settle_s, window_s = (5.0, 15.0) if report.quick else (20.0, 60.0)
    with whole() as platform:
        time.sleep(settle_s)
        root = psutil.Process(platform.pids["sextant"])
        family = [root, *root.children(recursive=True)]
        before = {process.pid: _cpu_s(process) for process in family}
        time.sleep(window_s)
        used = {process.pid: _cpu_s(process) - before[process.pid] for process in family}
        names = {pid: name for name, pid in platform.pids.items()}
        for process in family:
            pss = process.memory_full_info().pss / 2**20
            label = names.get(process.pid) or _label(process, names)
            report.samples.setdefault(f"{label} pss_mb", []).append(round(pss, 1))
            report.samples.setdefault(f"{label} cpu_percent", []).append(round(100 * used[process.pid] / window_s, 2))
    total = sum(sum(values) for key, values in report.samples.items() if key.endswith("pss_mb"))
    report.figure("pss_mb", total)
    report.figure("cpu_percent", 100 * sum(used.values()) / window_s)
    report.figure("processes", len(family))
    for key, values in sorted(report.samples.items(), key=lambda item: -sum(item[1])):
        if key.endswith("pss_mb"):
            share = sum(report.samples[key.replace("pss_mb", "cpu_percent")])
            report.note(f"{key.removesuffix(' pss_mb'):<20} {sum(values):7.1f} MB  {share:5.2f} % of a core")


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _label(process: psutil.Process, names: dict[int, str]) -> str:
    parent = process.parent()
    return f"{names.get(parent.pid, 'child')} child" if parent else "child"
