"""What a script says and leaves is not trusted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sextant_shared.errors import WorkFailed
from sextant_trainer.script.leaving import take
from sextant_trainer.script.reports import BadReport, Report, parse, printable


def line(**content: Any) -> bytes:
    """A report as a script writes it."""
    return json.dumps(content).encode()


def test_a_report_says_what_it_says() -> None:
    assert parse(line(progress=1, message="half\n\x1b[2Jdone", metrics={"loss": 2}, step=3)) == Report(
        1.0, "half  [2Jdone", {"loss": 2.0}, None, 3
    )
    assert parse(line(checkpoint="step-1.a_b")) == Report(checkpoint="step-1.a_b")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"epoch 1", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"metrics": {"loss": NaN}}', "no finite number"),
        (b'{"progress": 1e999}', "progress"),
        (line(progress="half"), "progress"),
        (line(progress=True), "progress"),
        (line(metrics={"loss": "low"}), "'loss'"),
        (line(metrics={"a\nb": 1}), "printable"),
        (line(metrics={"x": 10**400}), "'x'"),
        (line(metrics=[1]), "metrics"),
        (line(checkpoint="../up"), "checkpoint"),
        (line(checkpoint=".hidden"), "checkpoint"),
        (line(checkpoint=""), "checkpoint"),
        (line(checkpoint="a", step=-1), "step"),
        (line(type="result", registers=[]), "unknown key 'registers'"),
    ],
)
def test_what_is_no_report_is_told_apart(content: bytes, says: str) -> None:
    with pytest.raises(BadReport, match=says):
        parse(content)


def test_only_regular_files_of_its_own_are_taken(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    source = tmp_path / "output"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "weights").write_text("w")
    (source / "log.txt").write_text("forged")
    (source / ".checkpoints").mkdir()
    (source / ".checkpoints" / "1").write_text("forged")
    (source / "link").symlink_to(secret)
    (source / "folder").symlink_to(tmp_path)
    os.link(secret, source / "second")
    os.mkfifo(source / "pipe")
    (source / "back\\slash").write_text("x")
    removed = take(source, tmp_path / "taken")
    left = sorted(str(path.relative_to(tmp_path / "taken")) for path in (tmp_path / "taken").rglob("*"))
    assert left == ["deep", "deep/weights"]
    assert len(removed) == 7
    assert secret.read_text() == "secret"


def test_a_directory_that_became_a_link_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "output").symlink_to(tmp_path)
    with pytest.raises(WorkFailed):
        take(tmp_path / "output", tmp_path / "taken")


def test_a_message_is_one_printable_line() -> None:
    assert printable("a\r\nb\x1b[31m\u202ec", 100) == "a  b [31m c"
    assert len(printable("x" * 1000, 10)) == 10
