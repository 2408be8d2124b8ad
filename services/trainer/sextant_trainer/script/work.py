"""The work of a `script` job. This process stays beside the script: it alone talks to the supervisor."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from sextant_shared.confinement.confining import confine, limit
from sextant_shared.confinement.kernel import end_with_parent
from sextant_shared.contracts.specs import ScriptSpec
from sextant_shared.errors import InvalidInput, TransientError, WorkFailed, WorkInterrupted
from sextant_shared.execution import user_code
from sextant_shared.execution.workbench import Paused, Registration, Result, Workbench
from sextant_trainer.script.leaving import CHECKPOINTS, take
from sextant_trainer.script.reports import MAX_LINE, BadReport, Report, parse, printable
from sextant_trainer.script.rooms import Rooms

TRY_AGAIN = 75
"""The exit status (EX_TEMPFAIL) of a script that wants to go on later, from its last checkpoint."""
GRACE_S = 8.0
LOOK_EVERY_S = 0.2
TELL_EVERY_S = 0.25
MOST_NOTES = 20
MOST_ROWS = 200_000
TAIL = 8 << 10


def run_script(bench: Workbench) -> Result | Paused:
    """Run it to its end. Raises WorkFailed, TransientError or WorkInterrupted, after how it ended."""
    spec = ScriptSpec.model_validate(bench.order.spec, strict=False)
    code = user_code.unpack(user_code.archive_of(bench), bench.directory / "code", bench.order.user_code)
    if not (code / spec.run).is_file():
        found = sorted(path.relative_to(code).as_posix() for path in code.rglob("*.py"))
        raise InvalidInput(f"the code has no file {spec.run}", field="run", accepted=", ".join(found[:20]) or "none")
    rooms = Rooms.make(bench, spec, code)
    script = Script(bench, spec, rooms)
    status = script.run()
    if script.stopped:
        raise WorkInterrupted(f"{spec.run} was stopped")
    if script.pausing and status in (TRY_AGAIN, -signal.SIGUSR1):
        return Paused()
    _insist_on_success(spec.run, status, bench.directory / "log.txt")
    return _result(bench, spec, script)


class Script:
    """The script's processes, a group of their own, while they run."""

    def __init__(self, bench: Workbench, spec: ScriptSpec, rooms: Rooms) -> None:
        self._bench, self._spec, self._rooms = bench, spec, rooms
        self._process: subprocess.Popen[bytes] | None = None
        self._deadline: float | None = None
        self._buffer = b""
        self._untold: Report | None = None
        self._told = 0.0
        self._fraction, self._notes, self._rows, self._checkpoints = 0.0, 0, 0, 0
        self._parent = os.getppid()
        self.metrics: dict[str, float] = {}
        self.stopped = self.pausing = False

    def run(self) -> int:
        """Start it and see it to its end; its exit status."""
        reader, writer = os.pipe()
        os.set_blocking(reader, False)
        # Not killed with the supervisor: this process ends the whole group first.
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGUSR1, self._pause)
        end_with_parent(signal.SIGTERM)
        try:
            self._process = self._start(writer)
            os.close(writer)
            self._follow(self._process, reader)
            status = self._process.wait()
        finally:
            self._signal(signal.SIGKILL)
            os.close(reader)
        self._tell(force=True)
        return status

    def _start(self, writer: int) -> subprocess.Popen[bytes]:
        def become() -> None:
            os.setpgid(0, 0)
            end_with_parent(signal.SIGKILL)
            limit(self._spec.limits)
            confine(self._rooms.readable, self._rooms.writable, processes=True)

        try:
            return subprocess.Popen(
                [sys.executable, self._spec.run, *self._spec.arguments],
                cwd=self._rooms.code,
                env=self._rooms.environment(self._bench, writer),
                stdin=subprocess.DEVNULL,
                pass_fds=[writer],
                preexec_fn=become,  # noqa: PLW1509 - this process has one thread
            )
        except subprocess.SubprocessError:
            raise WorkFailed(f"{self._spec.run} could not be started: this machine does not confine it") from None

    def _follow(self, process: subprocess.Popen[bytes], reader: int) -> None:
        while process.poll() is None:
            select.select([reader], [], [], LOOK_EVERY_S)
            self._read(reader)
            self._tell()
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._signal(signal.SIGKILL)
        # Whatever it has left running could go on writing.
        self._signal(signal.SIGKILL)
        self._read(reader)

    def _stop(self, *_: object) -> None:
        self.stopped = True
        self._deadline = time.monotonic() + GRACE_S
        # Asked by a supervisor that lives; one that is gone asks by its death, and its lease is running out.
        self._signal(signal.SIGKILL if os.getppid() != self._parent else signal.SIGTERM)

    def _pause(self, *_: object) -> None:
        self.pausing = True
        self._deadline = time.monotonic() + GRACE_S
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGUSR1)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            try:
                os.killpg(self._process.pid, number)
            except (ProcessLookupError, PermissionError):
                # Gone, or about to be: a group of zombies alone takes no signal.
                return

    def _read(self, reader: int) -> None:
        while True:
            try:
                data = os.read(reader, MAX_LINE)
            except BlockingIOError:
                return
            if not data:
                return
            *lines, self._buffer = (self._buffer + data).split(b"\n")
            for line in lines:
                self._hear(line)
            if len(self._buffer) > MAX_LINE:
                self._note(f"a line of the report has more than {MAX_LINE} bytes")
                self._buffer = b""

    def _hear(self, line: bytes) -> None:
        try:
            report = parse(line)
            if report.checkpoint is not None:
                self._hand_over(report.checkpoint, report.step)
        except BadReport as error:
            self._note(f"a line of the report {error}")
            return
        self._fraction = self._fraction if report.progress is None else report.progress
        self._untold = report
        self.metrics.update(report.metrics)
        if report.metrics and self._rows < MOST_ROWS:
            self._rows += 1
            with (self._bench.out / "metrics.jsonl").open("a") as rows:
                rows.write(json.dumps({"step": report.step, **report.metrics}, sort_keys=True) + "\n")

    def _hand_over(self, name: str, step: int) -> None:
        source = self._rooms.checkpoints / name
        if source.is_symlink() or not source.is_dir():
            raise BadReport(f"names the checkpoint {name!r}, and there is no directory of this name")
        self._checkpoints += 1
        path = f"{CHECKPOINTS}/{self._checkpoints}"
        for left_out in take(source, self._bench.out / path):
            self._note(f"left out of the checkpoint {name}: {printable(left_out, 300)}")
        self._bench.checkpoint(path, step=step, samples=0)

    def _tell(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if self._untold is not None and (force or now - self._told >= TELL_EVERY_S):
            self._bench.progress(self._fraction, self._untold.message, self.metrics)
            self._untold, self._told = None, now

    def _note(self, what: str) -> None:
        self._notes += 1
        if self._notes <= MOST_NOTES:
            sys.stderr.write(f"sextant: {what}\n")


def _insist_on_success(run: str, status: int, log: Path) -> None:
    if status == 0:
        return
    if status == TRY_AGAIN:
        raise TransientError(f"{run} asked to be tried again (status {TRY_AGAIN})")
    if status == -signal.SIGKILL:
        raise TransientError(f"{run} was killed by SIGKILL: the machine may have run out of memory")
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    last = _last_line(log)
    raise WorkFailed(f"{run} ended {how}" + (f": {last}" if last else ""))


def _last_line(log: Path) -> str:
    with log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - TAIL))
        lines = stream.read(TAIL).decode(errors="replace").splitlines()
    return next((text for line in reversed(lines) if (text := printable(line, 300))), "")


def _result(bench: Workbench, spec: ScriptSpec, script: Script) -> Result:
    left_out = take(bench.directory / "script" / "output", bench.directory / "script" / "taken")
    for path in (bench.directory / "script" / "taken").iterdir():
        path.rename(bench.out / path.name)
    for what in left_out:
        sys.stderr.write(f"sextant: left out of the outputs: {printable(what, 300)}\n")
    about = {"format": "files", "script": spec.run, "code": bench.order.input("code").digest, "metrics": script.metrics}
    if not (bench.out / "model.json").exists():
        (bench.out / "model.json").write_text(json.dumps(about, indent=1, sort_keys=True))
    checkpoints = bench.out / CHECKPOINTS
    files = sorted(
        path.relative_to(bench.out).as_posix()
        for path in bench.out.rglob("*")
        if path.is_file() and not path.is_relative_to(checkpoints)
    )
    name = spec.register_as or bench.order.name
    return Result(
        outputs={"metrics": script.metrics, "files": len(files), "left_out": left_out[:100]},
        registers=[Registration(type="model", name=name, output="model", files=files, meta=about)],
    )
