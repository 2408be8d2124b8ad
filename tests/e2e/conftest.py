"""The whole platform, as `sextant up` runs it, on ports and in a directory of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sextant import Client, documents
from sextant.auditing import Verdict
from sextant.stack import control, processes
from sextant.stack.home import Home
from sextant.stack.processes import Options
from sextant.stack.supervisor import port_is_free
from sextant.witnessing import verify_server


@dataclass(frozen=True)
class Stack:
    """A running platform, and a client with its admin key."""

    home: Path
    url: str
    client: Client

    def check_audit(self) -> Verdict:
        """The audit log as it is now, checked against what the notary signed."""
        home = Home(self.home)
        return verify_server(self.client, home.notary_pubkey, home.notary_checkpoints)

    def pid(self, name: str) -> int:
        """The process id of one of its processes, as it is now."""
        found = {process.name: process.pid for process in control.status(self.home).processes}
        assert found[name] is not None
        return found[name] or 0


def free_options() -> Options:
    """A block of ports that nobody uses."""
    for port in range(21_000, 29_000, 50):
        options = Options(port=port, slots=2)
        if all(port_is_free(number) for number in processes.ports(options)):
            return options
    raise AssertionError("no free block of ports")


@contextmanager
def home_directory() -> Iterator[Path]:
    """A place for a stack's state, removed at the end."""
    # Not below pytest's own directory: the account that runs PostgreSQL for root could not come to it.
    directory = Path(tempfile.mkdtemp(prefix="sextant-e2e-"))
    directory.chmod(0o711 if os.geteuid() == 0 else 0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Started once for all end-to-end tests."""
    with home_directory() as directory:
        try:
            os.environ["SEXTANT_USER_CODE"] = "confined"
            now = control.up_detached(directory, free_options())
            key = Home(directory).credentials().admin_key
            with Client(now.url, key) as client:
                yield Stack(directory, now.url, client)
        finally:
            control.down(directory)


@pytest.fixture
def pipeline() -> dict[str, Any]:
    """The quickstart's pipeline with a smaller search."""
    spec = documents.example("digits").content
    spec["steps"]["search"]["trials"] = 3
    return spec
