"""A backup that is taken while jobs come and go, and restored elsewhere: nothing of it is lost, and work goes on."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sextant import Client
from sextant.command.app import build
from sextant.errors import BadInput
from sextant.stack import control, keeping
from sextant.stack.home import Home
from sextant.stack.supervisor import StackFailed
from tests.e2e.conftest import Stack, free_options, home_directory
from tests.e2e.test_reproducing import PIPELINE


def quiet(line: str) -> None:
    """Nobody listens."""


class Load:
    """Jobs that are submitted one after the other until it is stopped; those that were accepted, with the time."""

    def __init__(self, stack: Stack) -> None:
        self.accepted: list[tuple[float, str]] = []
        self._client = Client(stack.url, stack.client.profile.key)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            job = self._client.submit({"kind": "probe", "sleep_s": 0.2, "returns": {"number": len(self.accepted)}})
            self.accepted.append((time.time(), str(job.id)))
            time.sleep(0.05)

    def stop(self) -> None:
        """End it."""
        self._over.set()
        self._thread.join()


def test_what_was_backed_up_under_load_goes_on_elsewhere(stack: Stack, tmp_path: Path) -> None:
    made = stack.client.wait(stack.client.submit(PIPELINE), timeout=120)
    file = tmp_path / "sextant.tar"
    load = Load(stack)
    try:
        while len(load.accepted) < 10:
            time.sleep(0.05)
        began = time.time()
        told: list[str] = []
        keeping.backup(stack.home, file, told.append)
        time.sleep(0.5)
    finally:
        load.stop()
    assert any("artefacts saved" in line for line in told)
    with pytest.raises(BadInput, match="is there already"):
        keeping.backup(stack.home, file, quiet)

    with home_directory() as elsewhere:
        keeping.restore(elsewhere, file, quiet)
        with pytest.raises(BadInput, match="has a state already"):
            keeping.restore(elsewhere, file, quiet)
        now = control.up_detached(elsewhere, free_options())
        try:
            key = Home(elsewhere).credentials().admin_key
            with Client(now.url, key) as client:
                _check(client, Stack(elsewhere, now.url, client), stack, load, began, tmp_path)
                again = client.wait(client.submit({"kind": "probe", "returns": {"answer": 1}}), timeout=60)
                assert again.state == "SUCCEEDED"
                assert client.job(made.id).outputs == made.outputs
        finally:
            control.down(elsewhere)


def _check(client: Client, restored: Stack, stack: Stack, load: Load, began: float, tmp_path: Path) -> None:
    # What was accepted before the backup began is there, and ends once.
    for at, job in load.accepted:
        if at < began:
            ended = client.wait(job, timeout=90)
            assert [row.event for row in client.audit(job)].count("succeeded") == 1
            assert ended.state == "SUCCEEDED"
    verdict = restored.check_audit()
    assert (verdict.verdict, verdict.reason) == ("ok", None)
    assert any(row.event == "restored" for row in client.audit())
    # Bytes are what they were; the keys of before are valid, too.
    pulled = [one.pull("small", tmp_path / name) for name, one in (("a", stack.client), ("b", client))]
    first, second = ([path.read_bytes() for path in one.files] for one in pulled)
    assert first == second
    with Client(restored.url, stack.client.profile.key) as old:
        assert old.job(load.accepted[0][1]).state == "SUCCEEDED"


def test_a_damaged_backup_restores_nothing(stack: Stack, tmp_path: Path) -> None:
    stack.client.wait(stack.client.submit({**PIPELINE["steps"]["data"], "name": "small-digits"}), timeout=60)
    file = tmp_path / "sextant.tar"
    typed = CliRunner().invoke(build(), ["backup", str(file)], env={"SEXTANT_HOME": str(stack.home)})
    assert typed.exit_code == 0, typed.output
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[whole.rindex(b"ARROW1") - 100] ^= 1
    cut = whole[: len(whole) * 2 // 3]
    damages = {"damaged|cannot be read": cut, "hash": bytes(changed), "cannot be read": b"hello" * 1000}
    for says, content in damages.items():
        file.write_bytes(content)
        with home_directory() as elsewhere:
            with pytest.raises((BadInput, StackFailed), match=says):
                keeping.restore(elsewhere, file, quiet)
            typed = CliRunner().invoke(build(), ["restore", str(file)], env={"SEXTANT_HOME": str(elsewhere)})
            assert typed.exit_code not in (0, None)
            assert "Traceback" not in typed.output
