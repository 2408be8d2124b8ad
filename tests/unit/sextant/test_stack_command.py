"""The commands of the local stack, where there is none or one that is not ready."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sextant.command.app import build


def run(*words: str) -> Any:
    return CliRunner().invoke(build(), list(words))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEXTANT_HOME", str(tmp_path))
    return tmp_path


def test_a_stack_that_is_down_is_told_with_3(home: Path) -> None:
    result = run("status", "--json")
    assert result.exit_code == 3
    told = json.loads(result.stdout)
    assert (told["up"], told["ready"], told["home"]) == (False, False, str(home))
    assert "sextant up" in run("status").stdout


def test_down_without_a_stack_is_no_error(home: Path) -> None:
    result = run("down", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"stopped": False}


def test_a_stack_that_is_up_and_not_ready_is_told_with_1(home: Path) -> None:
    (home / "run").mkdir()
    descriptor = os.open(home / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.pwrite(descriptor, b"12345", 0)
        assert run("status").exit_code == 1
    finally:
        os.close(descriptor)


def test_logs_are_told_by_service(home: Path) -> None:
    (home / "logs").mkdir()
    (home / "logs" / "trainer.log").write_text("one\ntwo\x1b[2J\n")
    (home / "logs" / "tuner.log").write_text("three\n")
    lines = [line.split(" | ") for line in run("stack", "logs").stdout.splitlines()]
    assert [(name.strip(), line) for name, line in lines] == [
        ("trainer", "one"),
        ("trainer", "two[2J"),
        ("tuner", "three"),
    ]
    assert json.loads(run("stack", "logs", "trainer", "--tail", "1", "--json").stdout)[0]["service"] == "trainer"
    unknown = run("stack", "logs", "nobody")
    assert unknown.exit_code == 2
    assert "trainer, tuner" in unknown.stderr
