"""Backup and restore of a local stack: the scheduler's own commands, with this stack's servers and directories."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sextant.errors import BadInput
from sextant.stack import given, processes
from sextant.stack.home import Home
from sextant.stack.processes import Options
from sextant.stack.running import running_servers
from sextant.stack.servers import ServerUrls
from sextant.stack.supervisor import StackFailed

Tell = Callable[[str], None]
BAD_INPUT = 2
NAME = "sextant_scheduler: "


def backup(path: Path, file: Path, tell: Tell) -> None:
    """Write the stack's state to a new file while it runs. Raises BadInput, and StackFailed where none is up."""
    home = Home(path.absolute())
    if home.holder() is None:
        raise StackFailed(f"no stack is up in {home.path}: start it with sextant up")
    urls = {name: value for name, value in os.environ.items() if name in given.PORTS and value}
    _run(home, processes.urls(home, home.credentials(), 0, urls), ["backup", str(file.absolute())], tell)


def restore(path: Path, file: Path, tell: Tell) -> None:
    """Bring the state in a backup into a new directory; `up` starts from it. Raises BadInput."""
    home = Home(path.absolute())
    if home.postgres.exists():
        raise BadInput(f"{home.path} has a state already; choose a new place", field="SEXTANT_HOME")
    if not file.is_file():
        raise BadInput(f"{file} is no file", field="FILE")
    with running_servers(path) as running:
        _run(home, running.urls, ["restore", str(file.absolute())], tell)


def _run(home: Home, where: ServerUrls, arguments: list[str], tell: Tell) -> None:
    base = processes.environment(home, home.credentials(), where, Options())
    command = [sys.executable, "-m", "sextant_scheduler", *arguments]
    last = "it said nothing"
    with subprocess.Popen(command, env=dict(base), stderr=subprocess.PIPE, text=True) as child:
        for line in child.stderr or ():
            last = line.strip()
            if not last.startswith(NAME):
                tell(last)
    if child.returncode:
        error = BadInput if child.returncode == BAD_INPUT else StackFailed
        raise error(last.removeprefix(NAME))
