"""Cleaning texts and a table: ours beside polars by hand (the floor) and `datasets`, and memory as rows grow.

Then the same on the platform, in pieces: by one worker and by two, and of a source that has grown by a tenth.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from sextant import Client
from tests.bench import peers, platforms, prepare_files
from tests.bench.clients.prepare_ours import STEPS
from tests.bench.report import Report

CLIENTS = Path(__file__).with_name("clients")
ROUND_S = 600.0
DATASETS = "datasets==5.2.*"
KINDS = ("text", "table")


def run(report: Report) -> None:
    """Rounds of all three in turn, on the same files, each in a process of its own; the first round warms up."""
    rounds, rows = (1, 100_000) if report.quick else (3, 1_000_000)
    python = peers.installed("datasets", DATASETS, report)
    with tempfile.TemporaryDirectory(prefix="bench-prepare-", dir="/var/tmp") as directory:
        home = Path(directory)
        found: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for kind in KINDS:
            path = prepare_files.write(kind, home, rows)
            commands = _commands(python)
            answers: dict[str, list[dict[str, Any]]] = {who: [] for who in commands}
            for number in range(rounds + 1):
                for who, command in commands.items():
                    if number or who != "datasets":  # It takes half a minute: a warm-up would show nothing there.
                        answer = _ask([*command, kind, str(path)], home)
                        answers[who] += [answer] if number else []
                said = ", ".join(f"{who} {answers[who][-1]['seconds']:.2f} s" for who in commands if answers[who])
                report.say(f"{kind}, round {number}: {said or 'warm'}")
            found[kind] = answers
            path.unlink()
        _tell(report, found, rows)
        _memory(report, home)
        _pieces(report, home)


def _commands(datasets: str) -> dict[str, list[str]]:
    return {
        "polars": [sys.executable, str(CLIENTS / "prepare_polars.py")],
        "ours": [sys.executable, "-m", "tests.bench.clients.prepare_ours"],
        "datasets": [datasets, str(CLIENTS / "prepare_datasets.py")],
    }


def _ask(command: list[str], home: Path) -> dict[str, Any]:
    out = Path(tempfile.mkdtemp(dir=home))
    try:
        said = peers.said([*command, str(out)], ROUND_S)
        answer: dict[str, Any] = json.loads(said[said.rindex("{") :])
        return answer
    finally:
        shutil.rmtree(out)


def _tell(report: Report, found: dict[str, dict[str, list[dict[str, Any]]]], rows: int) -> None:
    ratios: dict[str, list[float]] = {"polars": [], "datasets": []}
    total = 0.0
    for kind, answers in found.items():
        seconds = {who: [answer["seconds"] for answer in of_one] for who, of_one in answers.items()}
        for who, values in seconds.items():
            report.figure(f"{kind}_{who}_s", statistics.median(values))
            report.figure(f"{kind}_{who}_peak_mb", max(answer["peak_mb"] for answer in answers[who]))
            report.sample(f"{kind}_{who}_s", values)
        total += statistics.median(seconds["ours"])
        for who, of_kind in ratios.items():
            pairs = [a / b for a, b in zip(seconds[who], seconds["ours"], strict=True)]
            of_kind.append(statistics.median(pairs))
            report.figure(f"{kind}_ratio_{who}", of_kind[-1])
        left = {who: answers[who][-1]["rows"] for who in answers}
        if len(set(left.values())) > 1:
            raise SystemExit(f"they did not do the same: rows left {left}")
    report.figure("rows_per_second", len(found) * rows / total)
    report.figure("ratio_polars", min(ratios["polars"]))
    report.figure("ratio_datasets", min(ratios["datasets"]))
    report.note(f"{rows} rows each; ratios: seconds of the other over ours, the worse of text and table")
    report.note("all: the same steps, Arrow files; ours and polars: exact shares of each class, hashes of the files")
    report.note(f"polars {version('polars')}")
    report.note(f"{DATASETS}: map and filter in batches of 10,000 on all cores where the step allows it, random shares")


def _memory(report: Report, home: Path) -> None:
    sizes = (100_000, 1_000_000) if report.quick else (1_000_000, 3_000_000, 10_000_000, 30_000_000)
    peaks = []
    for rows in sizes:
        path = prepare_files.write("narrow", home, rows)
        answer = _ask([*_commands("")["ours"], "table", str(path)], home)
        path.unlink()
        peaks.append(answer["peak_mb"])
        report.say(f"{rows} rows: {answer['peak_mb']:.0f} MB, {rows / answer['seconds']:.0f} rows/s")
        report.figure(f"peak_mb_{rows // 1000}k", answer["peak_mb"])
    report.figure("peak_mb", max(peaks))
    report.note("peak_mb: the largest resident size of our process, its libraries included, on a narrow table")


def _pieces(report: Report, home: Path) -> None:
    """Jobs from their start to their end, processes and hand-overs included."""
    rows, piece_mb = (500_000, 8) if report.quick else (3_000_000, 32)
    os.environ["SEXTANT_PIECE_BYTES"] = str(piece_mb << 20)
    paths = []
    for name, many in (("first", rows), ("grown", rows * 11 // 10)):
        (home / name).mkdir()
        paths.append(prepare_files.write("text", home / name, many))
    full = {}
    for workers in (1, 2):
        with (
            platforms.parts("scheduler-api", "scheduler-control", "data-prep", preparing=workers) as platform,
            platform.client() as client,
        ):
            first, grown = (client.push(path).uri for path in paths)
            _prepared(client, first, seed=0)
            appended, told = _prepared(client, grown, seed=0)
            full[workers], whole = _prepared(client, grown, seed=1)
        several = "s" if workers > 1 else ""
        report.figure(f"full_{workers}_worker{several}_s", full[workers])
        report.figure(f"appended_{workers}_worker{several}_s", appended)
        report.say(f"{workers} workers: {full[workers]:.1f} s, {whole}; grown: {appended:.1f} s, {told}")
        if workers == 1:
            report.figure("appended_ratio", appended / full[1])
            report.figure("pieces", told["all"])
            report.figure("pieces_reused", told["reused"])
    report.figure("ratio_two_workers", full[1] / full[2])
    report.note(
        f"{rows} texts, then a tenth more, in pieces of {piece_mb} MB; two workers share the cores of this machine"
    )


def _prepared(client: Client, source: str, seed: int) -> tuple[float, dict[str, int]]:
    """The seconds of a job, and what it says of its pieces. Another seed shares no piece."""
    spec = {"kind": "prepare", "name": "texts", "source": source, "seed": seed, "task": "text-classification"}
    job = client.submit({**spec, "text": "text", "target": "label", "clean": STEPS["text"]})
    done = client.wait(job, timeout=ROUND_S)
    if done.started_at is None or done.finished_at is None:
        raise SystemExit(f"the job {done.id} has no times")
    return (done.finished_at - done.started_at).total_seconds(), dict((done.outputs or {})["pieces"])
