"""The audit log: ways to falsify it that are found and named, false alarms, and rows checked a second."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

from sqlalchemy import Engine, text

from sextant import auditing, witnessing
from sextant_shared.contracts.notes import Checkpoint, Verifier
from tests.bench import tampering
from tests.bench.platforms import database
from tests.bench.report import Report

ROWS_TIMED = 100_000
CLEAN = 1_000
EACH = 200
JOBS = 40
"""Jobs of the log that is tampered with: enough for several checkpoints, and small, as it is checked each time."""


def run(report: Report) -> None:
    """On a real database; each tampering is rolled back after its export."""
    each, clean, timed = (10, 20, 20_000) if report.quick else (EACH, CLEAN, ROWS_TIMED)
    with database() as engine, TemporaryDirectory() as directory:
        notary = Path(directory)
        for number in range(4):
            tampering.fill(engine, JOBS // 4, Random(number))
            tampering.seal(engine, notary)
        verifier = witnessing.read_verifier(notary / "key.pub")
        signed = witnessing.read_checkpoints(notary / "checkpoints", verifier)
        _tamper(report, engine, signed, each)
        _forge(report, notary, signed, verifier)
        _alarms(report, engine, notary, verifier, clean)
    _speed(report, timed)


def _tamper(report: Report, engine: Engine, signed: list[Checkpoint], each: int) -> None:
    detected = named = 0
    rng = Random(1)
    for kind in tampering.KINDS:
        found = exact = 0
        for _ in range(each):
            with engine.connect() as conn:
                victim, lines = tampering.tampered(conn, kind, rng)
                conn.rollback()
            verdict = auditing.verify(lines, signed)
            found += verdict.verdict == "tampered"
            exact += is_named(verdict, victim)
        report.say(f"{kind}: {found} of {each} found, {exact} named")
        detected, named = detected + found, named + exact
    report.figure("tamper_kinds", len(tampering.KINDS))
    report.figure("tampered", each * len(tampering.KINDS))
    report.figure("detected", detected)
    report.figure("named", named)
    report.note("named: the row, its job, or the leaves under one checkpoint among which it is")


def is_named(verdict: auditing.Verdict, victim: tampering.Victim) -> bool:
    """Whether the reason says where: the job, or a place in the tree that it is at or after."""
    reason = verdict.reason or ""
    if victim.subject in reason or f"leaf {victim.index} is missing" in reason:
        return True
    if "one of the leaves" not in reason:
        return False
    first, last = reason.split("one of the leaves ")[1].split(" was ")[0].split(" to ")
    return int(first) <= victim.index <= int(last)


def _forge(report: Report, notary: Path, signed: list[Checkpoint], verifier: Verifier) -> None:
    file = notary / "forged"
    file.write_text(tampering.forged(signed, verifier))
    try:
        witnessing.read_checkpoints(file, verifier)
    except auditing.Tampered:
        report.note("checkpoints that another key signed in the notary's name: refused")
    else:
        raise SystemExit("checkpoints that another key has signed were taken for the notary's")


def _alarms(report: Report, engine: Engine, notary: Path, verifier: Verifier, number: int) -> None:
    false = 0
    rng = Random(2)
    for turn in range(number):
        tampering.fill(engine, 1, rng)
        if rng.random() < 0.7:
            tampering.seal(engine, notary)
        if turn % 50 == 0:
            report.say(f"{turn} of {number} clean logs")
        with engine.connect() as conn:
            lines = tampering.exported(conn)
        signed = witnessing.read_checkpoints(notary / "checkpoints", verifier)
        false += auditing.verify(lines, signed).verdict != "ok"
    report.figure("clean_logs", number)
    report.figure("false_alarms", false)


def _speed(report: Report, rows: int) -> None:
    with database() as engine, TemporaryDirectory() as directory:
        notary = Path(directory)
        while _count(engine) < rows:
            tampering.fill(engine, 500, Random(3))
        began = time.monotonic()
        tampering.seal(engine, notary, batches=rows // 1000 + 2)
        report.figure("sealed_per_second", _count(engine) / (time.monotonic() - began))
        with engine.connect() as conn:
            began = time.monotonic()
            lines = [line.encode() for line in tampering.exported(conn)]
            report.figure("exported_per_second", _count(engine) / (time.monotonic() - began))
        signed = witnessing.read_checkpoints(notary / "checkpoints", witnessing.read_verifier(notary / "key.pub"))
        rates = []
        for _ in range(5):
            began = time.process_time()
            verdict = auditing.verify(lines, signed)
            rates.append(verdict.rows / (time.process_time() - began))
            if verdict.verdict != "ok":
                raise SystemExit(f"a clean log does not hold: {verdict}")
        report.figure("rows_per_second", statistics.median(rates))
        report.sample("rows_per_second", rates)
        report.note(f"rows_per_second: checked, of a log of {verdict.rows} rows in memory, a second of CPU time")


def _count(engine: Engine) -> int:
    with engine.connect() as conn:
        return int(conn.execute(text("SELECT count(*) FROM audit")).scalar_one())
