"""A user's own code on the whole platform: what it is given, what it leaves, and what it cannot reach."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from sextant import JobFailed
from sextant.stack.home import Home
from sextant_shared.confinement.confining import confines
from sextant_shared.contracts.views import JobView
from tests.e2e.conftest import Stack

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(not confines(), reason="the kernel has no Landlock, or an old one"),
]

TRAINS = """
import json, os, pathlib, sys
report = os.fdopen(int(os.environ["SEXTANT_REPORT_FD"]), "w", buffering=1)
config = json.loads(pathlib.Path(os.environ["SEXTANT_CONFIG"]).read_text())
begun = 0
if "SEXTANT_RESUME" in os.environ:
    begun = int(pathlib.Path(os.environ["SEXTANT_RESUME"], "step").read_text())
print("begins at", begun, "with", sys.argv[1:])
for step in range(begun + 1, config["steps"] + 1):
    report.write(json.dumps({"progress": step / config["steps"], "metrics": {"loss": 1 / step}, "step": step}) + "\\n")
    kept = pathlib.Path(os.environ["SEXTANT_CHECKPOINTS"], f"step-{step}")
    kept.mkdir()
    (kept / "step").write_text(str(step))
    report.write(json.dumps({"checkpoint": kept.name, "step": step}) + "\\n")
    if step == config.get("fails_at") and os.environ["SEXTANT_ATTEMPT"] == "1":
        sys.exit(75)
from helper import name
output = pathlib.Path(os.environ["SEXTANT_OUTPUT"])
(output / name).write_text("weights")
(output / "leak").symlink_to("/etc/passwd")
"""
LOOKS = """
import glob, json, os, pathlib, socket
found = []
def see(what, call):
    try:
        found.append(f"{what}: {call()!r}"[:300])
    except OSError:
        pass
for pid in filter(str.isdigit, os.listdir("/proc")):
    if int(pid) != os.getpid():
        for name in ("environ", "maps"):
            path = f"/proc/{pid}/{name}"
            # Of threads of the kernel these are empty.
            see(path, lambda: open(path).read() or os.stat("/proc/none"))
        see(f"{pid} fd", lambda: os.readlink(f"/proc/{pid}/fd/0"))
for name in os.environ:
    if any(word in name for word in ("URL", "KEY", "PASSWORD", "TOKEN", "SECRET", "NATS", "REDIS", "DATABASE")):
        found.append(name)
opened = sorted(int(name) for name in os.listdir("/proc/self/fd"))
home = "@HOME@"
see("home", lambda: os.listdir(home))
for name in ("credentials.json", "client.json", "run/state.json", "artefacts", "work", "logs", "notary"):
    path = os.path.join(home, name)
    see(path, lambda: os.listdir(path) if os.path.isdir(path) else open(path).read())
see("order", lambda: open("../work.json").read())
see("shm", lambda: os.listdir("/dev/shm"))
see("write", lambda: open("/tmp/sextant-was-here", "w"))
see("write code", lambda: open("train.py", "a"))
see("truncate", lambda: os.truncate(os.path.join(home, "credentials.json"), 0))
see("kill", lambda: os.kill(os.getppid(), 0))
see("leave", os.setsid)
see("group", lambda: os.setpgid(0, 0))
see("root", lambda: os.setuid(1))
out = pathlib.Path(os.environ["SEXTANT_OUTPUT"], "found.json")
out.write_text(json.dumps({"found": found, "descriptors": opened, "environment": sorted(os.environ)}))
"""


def folder(path: Path, **files: str) -> Path:
    """A directory of code."""
    path.mkdir()
    for name, text in files.items():
        (path / f"{name}.py").write_text(text)
    return path


def run(stack: Stack, code: Path, **spec: Any) -> JobView:
    """A script seen to its end."""
    job = stack.client.submit({"kind": "script", "name": "own", "retry": {"backoff_s": 0.0}, **spec}, code=code)
    return stack.client.wait(job, timeout=120, check=False)


def pulled(stack: Stack, job: JobView, to: Path) -> Path:
    """What the script left."""
    made = (job.outputs or {})["model"]
    stack.client.pull(f"{made['name']}@{made['version']}", to)
    return to


def test_a_script_trains_reports_and_goes_on_from_its_checkpoint(stack: Stack, tmp_path: Path) -> None:
    code = folder(tmp_path / "code", train=TRAINS, helper='name = "weights.bin"')
    job = run(stack, code, config={"steps": 4, "fails_at": 3}, arguments=["--fast", "yes"])
    assert job.state == "SUCCEEDED", job.error
    assert job.attempt == 2
    assert job.outputs is not None
    assert job.outputs["metrics"] == {"loss": 0.25}
    assert job.outputs["left_out"] == ["leak is a link"]
    log = "".join(item.text for item in stack.client.logs(job))
    assert "begins at 3 with ['--fast', 'yes']" in log
    assert "left out of the outputs: leak is a link" in log
    left = pulled(stack, job, tmp_path / "left")
    assert (left / "weights.bin").read_text() == "weights"
    assert not (left / "leak").exists()
    assert [json.loads(line)["step"] for line in (left / "metrics.jsonl").read_text().splitlines()] == [4]
    assert json.loads((left / "model.json").read_text())["code"] == (job.inputs or {})["code"]["sha256"]
    [again] = stack.client.reproduce(str(job.id), timeout=120)
    assert again.verdict == "identical", again.differences


def test_a_script_that_looks_for_credentials_finds_none(stack: Stack, tmp_path: Path) -> None:
    home = Home(stack.home)
    code = folder(tmp_path / "code", train=LOOKS.replace("@HOME@", str(stack.home)))
    job = run(stack, code)
    assert job.state == "SUCCEEDED", job.error
    seen = json.loads((pulled(stack, job, tmp_path / "left") / "found.json").read_text())
    assert seen["found"] == []
    # The standard ones, the one for reports, and that of the listing itself.
    assert len(seen["descriptors"]) == 5
    assert home.credentials().postgres


def test_what_fails_says_so(stack: Stack, tmp_path: Path) -> None:
    code = folder(tmp_path / "code", train="raise ValueError('no such luck \\x1b[31m')")
    failed = run(stack, code)
    assert failed.state == "FAILED"
    assert (failed.error or {})["message"] == "train.py ended with status 1: ValueError: no such luck  [31m"
    missing = run(stack, code, run="other.py")
    assert (missing.error or {})["message"] == "the code has no file other.py"


HUNGRY = {
    "memory_mb": ("x = []\nwhile True: x.append(bytearray(b'x' * 2**24))", 256, "MiB of memory"),
    "cpu_s": ("while True: pass", 2, "of processor time"),
    "disk_mb": (
        (
            "import os, time\n"
            "for n in range(9): open(os.environ['SEXTANT_OUTPUT'] + f'/{n}', 'wb').write(b'x' * 2**23)\ntime.sleep(60)"
        ),
        32,
        "wrote",
    ),
    "processes": (
        "import subprocess, time\nx = [subprocess.Popen(['sleep', '4321']) for _ in range(12)]\ntime.sleep(60)",
        8,
        "processes",
    ),
}


@pytest.mark.parametrize("limit", HUNGRY)
def test_limits_hold(stack: Stack, tmp_path: Path, limit: str) -> None:
    script, most, says = HUNGRY[limit]
    job = run(stack, folder(tmp_path / "code", train=script), limits={limit: most})
    assert job.state == "FAILED", job.outputs
    error = job.error or {}
    assert error["field"] == f"limits.{limit}", error
    assert says in error["message"]
    assert not running("4321")


@pytest.mark.parametrize("end", ["cancel", "kill"])
def test_a_script_ends_with_all_it_started(stack: Stack, tmp_path: Path, end: str) -> None:
    mark = f"sextant-{time.time_ns()}"
    script = f"import subprocess, time\nsubprocess.Popen(['sh', '-c', 'trap \"\" TERM; sleep 300 # {mark}'])\n"
    code = folder(tmp_path / "code", train=script + "print('begun', flush=True)\ntime.sleep(300)")
    job = stack.client.submit({"kind": "script", "name": "own"}, code=code)
    until = time.monotonic() + 60
    while not running(mark) and time.monotonic() < until:
        time.sleep(0.1)
    assert running(mark)
    first = running(mark)
    if end == "kill":
        os.kill(stack.pid("trainer"), signal.SIGKILL)
        until = time.monotonic() + 10
        while set(first) & set(running(mark)):
            assert time.monotonic() < until
            time.sleep(0.1)
    stack.client.cancel(job)
    assert stack.client.wait(job, timeout=60, check=False).state == "CANCELLED"
    assert not running(mark)


def running(mark: str) -> list[str]:
    """Processes with this in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text()
        except OSError:
            continue
        found += [path.parent.name] if mark in text else []
    return found


PAUSES = """
import json, os, pathlib, signal, sys, time
report = os.fdopen(int(os.environ["SEXTANT_REPORT_FD"]), "w", buffering=1)
if "SEXTANT_RESUME" in os.environ:
    pathlib.Path(os.environ["SEXTANT_OUTPUT"], "resumed").write_text("yes")
    sys.exit()
def save(*_):
    kept = pathlib.Path(os.environ["SEXTANT_CHECKPOINTS"], "last")
    kept.mkdir()
    (kept / "state").write_text("half")
    report.write(json.dumps({"checkpoint": "last", "step": 7}) + "\\n")
    sys.exit(75)
signal.signal(signal.SIGUSR1, save)
report.write(json.dumps({"progress": 0.5, "message": "half"}) + "\\n")
time.sleep(300)
"""


def test_a_paused_script_saves_and_goes_on(stack: Stack, tmp_path: Path) -> None:
    job = stack.client.submit({"kind": "script", "name": "own"}, code=folder(tmp_path / "code", train=PAUSES))
    reach(stack, job, lambda view: view.state == "RUNNING" and (view.progress or {}).get("message") == "half")
    stack.client.pause(job)
    reach(stack, job, lambda view: view.state == "PAUSED")
    stack.client.resume(job)
    ended = stack.client.wait(job, timeout=60, check=False)
    assert ended.state == "SUCCEEDED", ended.error
    assert (pulled(stack, ended, tmp_path / "left") / "resumed").exists()


def reach(stack: Stack, job: Any, there: Any) -> None:
    """Wait until the job is so."""
    until = time.monotonic() + 60
    while not there(stack.client.job(job)):
        assert time.monotonic() < until, stack.client.job(job)
        time.sleep(0.1)


NET = """
import torch
def build(input_shape, outputs, hidden=8):
    assert not __import__("os").environ.get("SEXTANT_DATABASE_URL")
    size = 1
    for n in input_shape:
        size *= n
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(size, hidden), torch.nn.ReLU(),
                               torch.nn.Linear(hidden, outputs))

class Doubled(torch.nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)

class Pair(torch.nn.Module):
    tensor_rules, tensor_limit = {"a": "column", "b": "row"}, 8
    def __init__(self, size, hidden):
        super().__init__()
        self.a, self.b = Doubled(size, hidden), torch.nn.Linear(hidden, size)
    def forward(self, x):
        return self.b(self.a(x))

def not_split(input_shape, outputs):
    return torch.nn.Sequential(torch.nn.Flatten(), Pair(*input_shape, 8), torch.nn.Linear(*input_shape, outputs))
"""


STEPS: dict[str, dict[str, Any]] = {
    "data": {"kind": "prepare", "source": "package://sklearn/iris", "task": "tabular"},
    "model": {
        "kind": "train",
        "data": {"step": "data"},
        "model": {"code": "nets:build", "config": {"hidden": 16}},
        "config": {"epochs": 30, "batch_size": 16, "learning_rate": 0.02},
        "resources": {"ranks": 2},
    },
}


def test_a_model_of_ones_own_is_trained(stack: Stack, tmp_path: Path) -> None:
    code = folder(tmp_path / "code", nets=NET)
    ended = stack.client.wait(
        stack.client.submit({"name": "own-net", "steps": STEPS}, code=code), timeout=200, check=False
    )
    assert ended.state == "SUCCEEDED", [(step.step, step.error) for step in ended.steps or []]
    model = next(step for step in ended.steps or [] if step.step == "model")
    assert (model.outputs or {})["metrics"]["val_accuracy"] > 0.8
    wrong = {**STEPS["model"], "data": {"dataset": "own-net.data"}, "model": {"code": "nets:missing"}}
    with pytest.raises(JobFailed, match="nets:missing failed"):
        stack.client.wait(stack.client.submit(wrong, code=code), timeout=100)
    split = {"model_parallelism": 2, "data_parallelism": 1, "pipeline_stages": 1}
    wrong = {**wrong, "model": {"code": "nets:not_split"}, "parallel": split}
    refused = stack.client.wait(stack.client.submit(wrong, code=code), timeout=100, check=False)
    assert "a: Doubled cannot be split as column" in (refused.error or {})["message"]
    assert (refused.error or {})["field"] == "parallel.model_parallelism"


@pytest.mark.slow
def test_a_model_of_ones_own_is_exported(stack: Stack, tmp_path: Path) -> None:
    steps = {**STEPS, "served": {"kind": "export", "model": {"step": "model"}}}
    code = folder(tmp_path / "code", nets=NET)
    ended = stack.client.wait(
        stack.client.submit({"name": "own-onnx", "steps": steps}, code=code), timeout=200, check=False
    )
    assert ended.state == "SUCCEEDED", [(step.step, step.error) for step in ended.steps or []]
