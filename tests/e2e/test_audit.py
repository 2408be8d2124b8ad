"""The audit log of a running platform tells a job's story, and proves it to who has nothing but the checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sextant.command.app import build
from sextant.stack.home import Home
from tests.e2e.conftest import Stack


def run(*words: str, status: int = 0) -> str:
    """The command's output."""
    done = CliRunner().invoke(build(), list(words))
    assert done.exit_code == status, done.output
    return done.stdout


def run_all(*words: str, status: int) -> str:
    """The command's output, errors too."""
    done = CliRunner().invoke(build(), list(words))
    assert done.exit_code == status, done.output
    return done.output


def test_a_jobs_story_is_told_kept_and_proved(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEXTANT_URL", stack.url)
    monkeypatch.setenv("SEXTANT_API_KEY", stack.client.profile.key or "")
    monkeypatch.setenv("SEXTANT_HOME", str(stack.home))
    job = stack.client.wait(stack.client.submit({"kind": "probe", "returns": {"answer": 42}}))
    told = run("audit", "show", str(job.id))
    assert "was submitted" in told
    assert "ended well" in told
    assert "gave answer 42" in told
    assert json.loads(run("audit", "verify", "--job", str(job.id), "--json"))["verdict"] == "ok"

    listed = json.loads(run("audit", "list", str(job.id), "--json"))
    assert [row["event"] for row in listed][:1] == ["submitted"]
    archive = tmp_path / "archive.jsonl"
    expire = ["audit", "expire", "--before", "2020-01-01", "--archive", str(archive)]
    assert json.loads(run(*expire, "--json"))["rows"] == 0
    assert str(job.id) in archive.read_text()
    assert "cannot be written" in run_all(*expire, status=2)  # An archive is not written over.

    log, kept = tmp_path / "log.jsonl", tmp_path / "kept"
    key = str(Home(stack.home).notary_pubkey)
    run("audit", "export", str(log))
    run("audit", "checkpoints", str(kept), "--pubkey", key)
    monkeypatch.setenv("SEXTANT_URL", "http://127.0.0.1:1")
    given = ["--log", str(log), "--pubkey", key, "--checkpoints", str(kept)]
    run("audit", "verify", *given)
    log.write_text(log.read_text().replace('"actor":"key:admin"', '"actor":"key:other"', 1))
    assert "tampered" in run("audit", "verify", *given, status=2)
