"""Code is packed so that equal files are equal bytes, whatever stands beside them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from sextant import _specs as specs
from sextant._packing import open_code
from sextant.errors import BadInput


def code(path: Path) -> Path:
    """A directory of code."""
    (path / "pkg").mkdir(parents=True)
    (path / "train.py").write_text("import pkg")
    (path / "pkg" / "__init__.py").write_text("")
    return path


def test_the_same_code_is_the_same_archive(tmp_path: Path) -> None:
    first, second = code(tmp_path / "a" / "code"), code(tmp_path / "b" / "code")
    (second / "pkg" / "__pycache__").mkdir()
    (second / "pkg" / "__pycache__" / "x.pyc").write_bytes(b"x")
    (second / ".git").mkdir()
    (second / ".git" / "config").write_text("x")
    (second / ".env").write_text("SECRET=1")
    os.utime(second / "train.py", (0, 0))
    (second / "train.py").chmod(0o755)
    one, two = open_code(first), open_code(second)
    assert one.sha256() == two.sha256()
    with tarfile.open(fileobj=io.BytesIO(two.read(0, two.size))) as tar:
        assert tar.getnames() == ["pkg/__init__.py", "train.py"]


def test_other_code_is_another_archive(tmp_path: Path) -> None:
    first, second = code(tmp_path / "a"), code(tmp_path / "b")
    (second / "train.py").write_text("import os")
    assert open_code(first).sha256() != open_code(second).sha256()


def test_code_goes_to_what_runs_it_and_has_none() -> None:
    script, given = {"kind": "script"}, {"kind": "script", "code": "upload://x"}
    model = {"kind": "train", "model": {"code": "a:b"}}
    pipeline = {"kind": "pipeline", "steps": {"a": script, "b": given, "c": model, "d": {"kind": "probe"}}}
    places = specs.places_of_code(pipeline)
    assert places == ["a", "c"]
    made = specs.with_code(pipeline, places, "upload://y")["steps"]
    assert [step.get("code") for step in made.values()] == ["upload://y", "upload://x", "upload://y", None]
    assert specs.with_code(script, specs.places_of_code(script), "upload://y") == {**script, "code": "upload://y"}


def test_code_that_nothing_runs_is_refused() -> None:
    with pytest.raises(BadInput, match="nothing in the spec runs it"):
        specs.places_of_code({"kind": "train", "model": {"zoo": "mlp"}})
