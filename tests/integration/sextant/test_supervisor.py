"""The supervisor of the local stack, with processes that behave in every way."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sextant.errors import BadInput
from sextant.stack import control
from sextant.stack.home import Home
from sextant.stack.processes import Options, ProcessSpec
from sextant.stack.servers import free_port
from sextant.stack.supervisor import StackFailed, Supervisor

Said = list[tuple[str, str]]


@pytest.fixture
def said() -> Said:
    """What was shown: process and line."""
    return []


@pytest.fixture
def home_path() -> Iterator[Path]:
    """A directory that the account which runs PostgreSQL for root can come to: not below pytest's own."""
    with tempfile.TemporaryDirectory(prefix="sextant-") as directory:
        Path(directory).chmod(0o711)
        yield Path(directory)


@pytest.fixture
def supervisor(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """With a directory of its own, and little patience."""
    monkeypatch.setattr("sextant.stack.supervisor.EARLY_ENDS", 2)
    for name in ("run", "logs"):
        (tmp_path / name).mkdir()
    return Supervisor(Home(tmp_path), lambda name, line: said.append((name, line)))


def shell(name: str, script: str, port: int) -> ProcessSpec:
    """A process that runs a shell script, and is ready when the port answers."""
    return ProcessSpec(name, ["/bin/sh", "-c", script], {"PATH": "/usr/bin:/bin"}, tcp_port=port)


def start(supervisor: Supervisor, *specs: ProcessSpec) -> None:
    """Start, and stop."""

    async def run() -> None:
        try:
            await supervisor.start(specs, 30.0)
        finally:
            await supervisor.stop()

    asyncio.run(run())


def test_a_process_that_ends_again_and_again_is_told_with_its_last_words(supervisor: Supervisor, said: Said) -> None:
    broken = shell("broken", "echo first; echo there is no such thing >&2; exit 3", free_port(0))
    with pytest.raises(StackFailed, match=r"broken ends again and again: there is no such thing; see .*broken.log"):
        start(supervisor, broken)
    assert ("broken", "ended with status 3; starts again in 0.4 s") in said


def test_what_is_written_in_parts_is_shown_in_whole_lines(supervisor: Supervisor, said: Said) -> None:
    script = "printf one; sleep 0.1; printf ' line\\n\\nand '; sleep 0.1; printf 'a last'; exit 1"
    with pytest.raises(StackFailed):
        start(supervisor, shell("slow", script, free_port(0)))
    lines = [line for name, line in said if not line.startswith("ended")]
    assert lines[:2] == ["one line", "and a last"]


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("SEXTANT_DATABASE_URL", "postgresql+psycopg://someone:secret@127.0.0.1:{port}/there"),
        ("SEXTANT_REDIS_URL", "redis://:secret@127.0.0.1:{port}/0"),
        ("SEXTANT_NATS_URL", "nats://someone:secret@127.0.0.1:{port}"),
    ],
)
def test_a_given_server_that_is_down_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, home_path: Path, variable: str, url: str
) -> None:
    port = free_port(0)
    monkeypatch.setenv(variable, url.format(port=port))
    with pytest.raises(BadInput, match=f"{variable}: no server answers at 127.0.0.1:{port}") as told:
        control.up(home_path, Options(), lambda name, line: None)
    assert "secret" not in str(told.value)
