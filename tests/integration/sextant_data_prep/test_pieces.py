"""A large source over real workers: whichever of them is killed, each piece is in the version once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Engine, create_engine, text

from sextant.stack.running import RunningServers
from sextant_scheduler.handlers.submission import new_job
from sextant_shared.artefacts import hash_file
from sextant_shared.contracts.specs import SPEC
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import Cancel

ENDS_WITHIN_S = 200.0
ROWS = 25_000
"""Of a table: over a mebibyte, and so a piece."""
SPEC_OF_TABLE: dict[str, Any] = {
    "kind": "prepare",
    "name": "table",
    "task": "tabular",
    "target": "label",
    "clean": [{"do": "missing", "policy": "mean"}, {"do": "deduplicate"}],
    "max_bad_share": 0.1,
}


@dataclass
class Installation:
    """A control process and workers of data preparation, on their own database."""

    environments: dict[str, dict[str, str]]
    engine: Engine
    directory: Path
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """A worker of this name, or `control`."""
        module = ["sextant_scheduler", "control"] if name == "control" else ["sextant_data_prep", "worker"]
        own = {"SEXTANT_NODE_NAME": name, "SEXTANT_WORK_DIR": str(self.directory / name)}
        environment = self.environments["control" if name == "control" else "worker"] | own
        with (self.directory / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", *module]
            self.running[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self, name: str) -> None:
        """kill -9 of its process."""
        process = self.running.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def submit(self, path: Path, tenant: str, **spec: Any) -> UUID:
        """A job that prepares the file."""
        upload = new_id()
        held = self.directory / "artefacts" / "uploads" / str(upload)
        held.mkdir(parents=True)
        (held / path.name).symlink_to(path)
        told = SPEC.validate_python({**SPEC_OF_TABLE, "source": f"upload://{upload}", **spec})
        source = {"type": "upload", "id": str(upload), **hash_file(path).plain(), "path": path.name}
        job = new_job(told, tenant=tenant, actor="t", key=str(new_id()), inputs={"source": source})
        with self.engine.begin() as conn:
            return jobs.submit(conn, [job])[0].id

    def rows(self, query: str, **values: Any) -> list[Any]:
        """What the store answers."""
        with self.engine.connect() as conn:
            return list(conn.execute(text(query), values))

    def pieces(self, job_id: UUID) -> list[Any]:
        """The jobs of its pieces."""
        query = "SELECT id, state, lease_owner, fence FROM jobs WHERE parent_id = :id AND step LIKE 'piece-%'"
        return self.rows(query, id=job_id)

    def until(self, holds: Callable[[], Any], what: str) -> Any:
        """Wait until something is so; meanwhile start again what has ended, as whoever supervises them would."""
        end = time.monotonic() + ENDS_WITHIN_S
        while time.monotonic() < end:
            if found := holds():
                return found
            for name in [name for name, process in self.running.items() if process.poll() is not None]:
                self.start(name)
            time.sleep(0.03)
        logs = "\n".join(path.read_text()[-3000:] for path in self.directory.glob("*.log"))
        raise AssertionError(f"{what} took too long; logs:\n{logs}")

    def state(self, job_id: UUID) -> str:
        """Of a job."""
        return str(self.rows("SELECT state FROM jobs WHERE id = :id", id=job_id)[0].state)

    def ended(self, job_id: UUID) -> tuple[str, dict[str, Any]]:
        """The digest of the version that the job made, and its outputs."""
        states = ("SUCCEEDED", "FAILED", "QUARANTINED", "CANCELLED")
        state = self.until(lambda: self.state(job_id) in states and self.state(job_id), f"job {job_id}")
        assert state == "SUCCEEDED", self.rows("SELECT error FROM jobs WHERE id = :id", id=job_id)
        (row,) = self.rows("SELECT outputs FROM manifests WHERE job_id = :id", id=job_id)
        return row.outputs["dataset"]["digest"], row.outputs


@pytest.fixture(scope="module")
def installation(servers: RunningServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Each process with the account of its service."""
    directory = tmp_path_factory.mktemp("pieces")
    admin = create_engine(servers.urls.database_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as conn:
        conn.execute(text("CREATE DATABASE pieces"))
    environments = {}
    common = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SEXTANT_")},
        "SEXTANT_ARTEFACTS_URL": f"file://{directory}/artefacts",
        "SEXTANT_LEASE_S": "6.0",
        "SEXTANT_PIECE_BYTES": str(1 << 20),
        "SEXTANT_WORK_DIR": str(directory),
    }
    url = servers.urls.database_url.replace("@/postgres", "@/pieces")
    migrate = {**common, "SEXTANT_DATABASE_URL": url, **servers.accounts.roles()}
    migrate |= {"SEXTANT_REDIS_URL": servers.urls.redis_url, "SEXTANT_NATS_URL": servers.urls.nats_url}
    subprocess.run([sys.executable, "-m", "sextant_scheduler", "migrate"], env=migrate, check=True)
    for role, service in {"control": "scheduler-control", "worker": "data-prep"}.items():
        accounts = servers.accounts.urls(service)
        own = accounts["SEXTANT_DATABASE_URL"].replace("@/postgres", "@/pieces")
        environments[role] = {**common, **accounts, "SEXTANT_DATABASE_URL": own}
    engine = create_engine(url)
    made = Installation(environments, engine, directory)
    made.start("control")
    yield made
    for process in made.running.values():
        process.kill()
        process.wait()
    engine.dispose()
    with admin.connect() as conn:
        conn.execute(text("DROP DATABASE pieces WITH (FORCE)"))
    admin.dispose()


def packed(path: Path, tables: int) -> Path:
    """An archive of CSV files with missing numbers, bad rows, doubles, and words that come late."""
    with zipfile.ZipFile(path, "w") as archive:
        for table in range(tables):
            rng = Random(table)
            lines = ["x,n,word,label"]
            for number in range(ROWS):
                x = "" if number % 50 == 3 else f"{rng.gauss(0, 1):.12f}"
                word = ("red", "green", f"late{table}")[number % 3]
                lines.append(f"{x},{rng.randrange(10**9)},{word} word of some length,{'yes' if number % 7 else 'no'}")
                if number % 1000 == 0:
                    lines += ["1,2", "3,4,double,yes"]
            archive.writestr(f"{table}.csv", "\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three pieces."""
    return packed(tmp_path_factory.mktemp("data") / "tables.zip", 3)


@pytest.fixture(scope="module")
def undisturbed(installation: Installation, table: Path) -> str:
    """The digest of the version that one worker makes, whom nobody disturbs."""
    installation.start("alone")
    try:
        digest, outputs = installation.ended(installation.submit(table, "first"))
    finally:
        installation.kill("alone")
    assert outputs["pieces"] == {"all": 3, "reused": 0}
    return digest


@pytest.mark.timeout(600)
@pytest.mark.parametrize("who", ["leads", "helps"])
def test_a_worker_that_is_killed_loses_no_piece_and_doubles_none(
    installation: Installation, table: Path, undisturbed: str, who: str
) -> None:
    for name in ("a", "b"):
        installation.start(name)
    job_id = installation.submit(table, who)

    def struck() -> str | None:
        (job,) = installation.rows("SELECT lease_owner FROM jobs WHERE id = :id", id=job_id)
        pieces = installation.pieces(job_id)
        leader = str(job.lease_owner).split("/")[0]
        for piece in pieces:
            name = str(piece.lease_owner).split("/")[0]
            if piece.state == "RUNNING" and name in ("a", "b") and (name == leader) == (who == "leads"):
                return name
        return None

    killed = installation.until(struck, "the moment to strike")
    installation.kill(killed)
    installation.start(killed)
    digest, _ = installation.ended(job_id)
    for name in ("a", "b"):
        installation.kill(name)
    assert digest == undisturbed
    pieces = installation.pieces(job_id)
    assert [piece.state for piece in pieces] == ["SUCCEEDED"] * 3
    done = installation.rows(
        "SELECT job_id FROM manifests WHERE job_id = ANY(:ids)", ids=[piece.id for piece in pieces]
    )
    assert len(done) == 3
    lost = "SELECT DISTINCT job_id FROM attempts WHERE outcome = 'worker-lost' AND job_id = ANY(:ids)"
    assert installation.rows(lost, ids=[job_id, *(piece.id for piece in pieces)])


@pytest.mark.timeout(600)
def test_a_source_that_has_grown_uses_the_pieces_that_are_there(
    installation: Installation, undisturbed: str, tmp_path: Path
) -> None:
    del undisturbed  # made the pieces of this tenant
    grown = packed(tmp_path / "grown.zip", 4)
    installation.start("alone")
    try:
        digest, outputs = installation.ended(installation.submit(grown, "first", name="other"))
        whole, _ = installation.ended(installation.submit(grown, "nobody"))
    finally:
        installation.kill("alone")
    assert outputs["pieces"] == {"all": 4, "reused": 3}
    assert digest == whole


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pieces_end_with_the_job_that_is_cancelled(installation: Installation, table: Path) -> None:
    installation.start("alone")
    try:
        job_id = installation.submit(table, "cancelling")
        installation.until(lambda: any(p.state == "RUNNING" for p in installation.pieces(job_id)), "the first piece")
        with installation.engine.begin() as conn:
            jobs.apply(conn, job_id, Cancel("no longer wanted"), actor="t", rng=Random(0))
        installation.until(lambda: installation.state(job_id) == "CANCELLED", "the cancellation")
        ended = {"SUCCEEDED", "CANCELLED"}
        installation.until(lambda: {p.state for p in installation.pieces(job_id)} <= ended, "the pieces")
        assert "CANCELLED" in {piece.state for piece in installation.pieces(job_id)}
        again, _ = installation.ended(installation.submit(table, "cancelling"))
        assert again
    finally:
        installation.kill("alone")


@pytest.mark.timeout(600)
def test_what_a_piece_cannot_do_ends_the_job_with_its_reason(installation: Installation, tmp_path: Path) -> None:
    mixed = packed(tmp_path / "mixed.zip", 2)
    with zipfile.ZipFile(mixed, "a") as archive:
        archive.writestr("2.csv", "x,x,word,label\n" + "1,2,red,yes\n" * 100_000)
    installation.start("alone")
    try:
        job_id = installation.submit(mixed, "failing")
        state = installation.until(lambda: installation.state(job_id) == "FAILED", "the failure")
        (row,) = installation.rows("SELECT error FROM jobs WHERE id = :id", id=job_id)
    finally:
        installation.kill("alone")
    assert state
    assert row.error["message"] == "2.csv: 2 columns are called 'x'"
