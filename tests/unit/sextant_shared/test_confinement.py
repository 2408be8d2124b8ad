"""What a confined process can still do, tried in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sextant_shared.confinement import confining, landlock
from sextant_shared.contracts.limits import Limits

pytestmark = pytest.mark.skipif(not confining.confines(), reason="the kernel has no Landlock, or an old one")

PROGRAM = """
import json, multiprocessing, os, subprocess, sys, threading
from pathlib import Path
from sextant_shared.confinement.confining import confine, limit
from sextant_shared.contracts.limits import Limits

own, other, processes = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "yes"
inherited = os.open(other / "secret", os.O_RDONLY)
confine([own / "given"], [own / "out"], processes=processes)
limit(Limits(disk_mb=1, cpu_s=100, memory_mb=512))
def tried(call):
    try:
        call()
    except (OSError, subprocess.SubprocessError, MemoryError) as error:
        return type(error).__name__
    return "done"
def thread():
    each = threading.Thread(target=print, args=("",), kwargs={"end": ""})
    each.start(), each.join()
def share():
    os.environ["TMPDIR"] = str(own / "out")
    queue = multiprocessing.Queue()
    each = multiprocessing.Process(target=queue.put, args=(1,))
    each.start(), queue.get(timeout=20), each.join()
(own / "out" / "a").write_text("a")
found = {
    "read given": tried(lambda: (own / "given" / "data").read_text()),
    "write given": tried(lambda: (own / "given" / "data").write_text("x")),
    "write out": tried(lambda: (own / "out" / "b").write_text("x")),
    "rename in out": tried(lambda: (own / "out" / "a").rename(own / "out" / "c")),
    "read other": tried(lambda: (other / "secret").read_text()),
    "list other": tried(lambda: list(other.iterdir())),
    "truncate other": tried(lambda: os.truncate(other / "secret", 0)),
    "link other": tried(lambda: os.link(other / "secret", own / "out" / "link")),
    "move out": tried(lambda: (own / "out" / "b").rename(other / "b")),
    "parent's environment": tried(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
    "own environment": tried(lambda: Path("/proc/self/environ").read_bytes()),
    "null": tried(lambda: open("/dev/null", "w").write("x")),
    "random": tried(lambda: open("/dev/urandom", "rb").read(4)),
    "thread": tried(thread),
    "fork": tried(lambda: subprocess.run([sys.executable, "-c", ""], check=True)),
    "share memory": tried(share),
    "leave the group": tried(lambda: os.setpgid(0, 0)),
    "leave the session": tried(os.setsid),
    "another user": tried(lambda: os.setuid(12345)),
    "large file": tried(lambda: (own / "out" / "large").write_bytes(bytes(2 << 20))),
    "memory": tried(lambda: bytearray(3 << 30)),
}
print(json.dumps(found))
"""


@pytest.mark.parametrize("processes", [True, False])
def test_what_is_not_given_cannot_be_had(tmp_path: Path, processes: bool) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    for directory in (own / "given", own / "out", other):
        directory.mkdir(parents=True)
    (own / "given" / "data").write_text("data")
    (other / "secret").write_text("secret")
    command = [sys.executable, "-c", PROGRAM, str(own), str(other), "yes" if processes else "no"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    allowed = {"read given", "write out", "rename in out", "own environment", "null", "random", "thread"}
    found = json.loads(done.stdout)
    done_ones = {name for name, outcome in found.items() if outcome == "done"}
    assert done_ones == (allowed | {"fork", "share memory"} if processes else allowed)
    assert found["memory"] == "MemoryError"
    assert (other / "secret").read_text() == "secret"
    assert os.listdir(other) == ["secret"]


def test_a_node_that_cannot_confine_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    assert confining.refusal("confined") is None
    monkeypatch.setattr(landlock, "version", lambda: 1)
    refused = confining.refusal("confined")
    assert refused is not None
    assert "Landlock 1" in refused.message
    assert confining.refusal("trusted") is None
    off = confining.refusal("off")
    assert off is not None
    assert "SEXTANT_USER_CODE" in off.message


def test_the_tighter_limit_counts() -> None:
    node, own = Limits(memory_mb=100, cpu_s=0, disk_mb=5), Limits(memory_mb=200, cpu_s=7, disk_mb=0)
    assert node.within(own) == Limits(memory_mb=100, cpu_s=7, disk_mb=5)
    assert not Limits().any
