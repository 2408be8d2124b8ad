"""A process of the product with its own composition: it dies at the point that it was told.

`python crashing.py ROLE CONFIG [POINT]`; CONFIG is the JSON of `Config`. The points that it reached go to a file.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

from prometheus_client import CollectorRegistry
from pydantic import TypeAdapter

from sextant_scheduler.settings import SchedulerSettings
from sextant_shared.artefacts import Artefacts
from sextant_shared.bus import Bus, ThreadedBus
from sextant_shared.execution.launching import Ending, Running
from sextant_shared.execution.measures import Measures
from sextant_shared.execution.probe import ProbeLauncher
from sextant_shared.execution.supervisor import Supervisor
from sextant_shared.execution.workbench import Checkpoint, Result
from sextant_shared.execution.worker import lock_worker
from sextant_shared.execution.workshop import Workshop
from sextant_shared.faults import Point
from sextant_shared.lifecycle.place import Place
from sextant_shared.store.engine import connect, connect_async, connect_autocommit

STATUS = 9
LEASE_S = 10.0
"""Longer than a process takes to start: what a worker held when it died is its successor's to recover."""
NODE = "crash-node"


@dataclass(frozen=True)
class Config:
    """Where everything is."""

    database_url: str
    redis_url: str
    nats_url: str
    directory: str

    @property
    def settings(self) -> SchedulerSettings:
        """Short times, so that repair need not be waited for."""
        return SchedulerSettings(
            **{name: value for name, value in asdict(self).items() if name != "directory"},
            artefacts_url=f"file://{self.directory}/artefacts",
            work_dir=Path(self.directory) / "work",
            lease_s=LEASE_S,
            redispatch_s=2.0,
            reservation_s=4.0,
            node_timeout_s=10.0,
        )


class Dying:
    """Ends the process at one point, as kill -9 does: nothing is flushed, closed or told."""

    def __init__(self, point: str | None, hits: Path) -> None:
        self._point = point
        self._seen: set[Point] = set()
        self._hits = hits

    def reach(self, point: Point) -> None:
        """Remember it, and die where it is the one."""
        if point not in self._seen:
            self._seen.add(point)
            with self._hits.open("a") as file:
                file.write(f"{point}\n")
        if point == self._point:
            os._exit(STATUS)


class Filing:
    """A probe that also makes an artefact."""

    def start(self, directory: Path, place: Place) -> Running:
        (directory / "out" / "a.bin").write_bytes(directory.name.encode())
        return ProbeLauncher().start(directory, place)


class Training:
    """Work that makes a checkpoint and then a result."""

    meeting: str | None = None

    def start(self, directory: Path, place: Place) -> Running:
        (directory / "out" / "step").mkdir()
        (directory / "out" / "step" / "weights.bin").write_bytes(b"weights")
        return self

    def events(self) -> Iterator[bytes]:
        yield Checkpoint(path="step", step=1, samples=8).model_dump_json().encode()
        time.sleep(0.2)
        yield Result(outputs={}).model_dump_json().encode()

    def processes(self) -> tuple[()]:
        return ()

    def wait(self) -> Ending:
        return Ending((0,))

    def signal(self, number: Any) -> None:
        return

    def kill(self) -> None:
        return


def control(config: Config, faults: Dying) -> None:
    """As `app.run_control`."""
    from sextant_scheduler.consumer import ControlLoop
    from sextant_scheduler.handlers.control import Control
    from sextant_scheduler.metrics import ControlMetrics
    from sextant_shared.queue import build_queue

    async def run() -> None:
        settings = config.settings
        engine, statements = (
            connect_async(settings.database_url, size=2),
            connect_autocommit(settings.database_url, size=1),
        )
        bus = await Bus.connect(settings.nats_url, "control")
        celery = build_queue(settings.redis_url)
        made = Control(engine, statements, bus, celery, settings, Random(), faults)
        await ControlLoop(made, ControlMetrics(CollectorRegistry())).run()

    asyncio.run(run())


def _workshop(config: Config, faults: Dying, worker: str) -> Workshop:
    settings = config.settings
    return Workshop(
        engine=connect(settings.database_url),
        artefacts=Artefacts(settings.artefacts_url, settings.work_dir / "cache"),
        bus=ThreadedBus(settings.nats_url, worker),
        directory=settings.work_dir / "jobs",
        worker=worker,
        lease_s=LEASE_S,
        launchers={"probe": Filing(), "train": Training()},
        measures=Measures(CollectorRegistry()),
        faults=faults,
    )


def worker(config: Config, faults: Dying) -> None:
    """As `execution.worker.run_worker`."""
    from sextant_shared import queue

    lock = lock_worker(config.settings.work_dir, "worker")
    supervisor = Supervisor(_workshop(config, faults, "crash-worker"))
    supervisor.listen()
    supervisor.recover()
    app = queue.build_queue(config.redis_url)

    @app.task(name=queue.TASK)  # type: ignore[untyped-decorator]
    def run(job_id: str) -> None:
        supervisor.run(UUID(job_id))

    quiet = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True, "quiet": True}
    app.Worker(pool="threads", concurrency=1, queues=["probe"], loglevel="WARNING", **quiet).start()
    del lock


def agent(config: Config, faults: Dying) -> None:
    """As `sextant_trainer.app.run`."""
    from sextant_shared.contracts.messages import NodeAlive
    from sextant_trainer.consumer import Agent
    from sextant_trainer.member import Members

    lock = lock_worker(config.settings.work_dir, "agent")
    shop = _workshop(config, faults, f"{NODE}/trainer")
    supervisor = Supervisor(shop)
    supervisor.listen()
    supervisor.recover()
    members = Members(shop, shop.launchers["train"], NODE)
    members.recover()
    Agent(shop, supervisor, members, NodeAlive(name=NODE, instance=str(os.getpid()), slots=2), 0.5).run()
    del lock


def submitter(config: Config, faults: Dying) -> None:
    """A client of the API's own group commit: submits what its ledger has no answer for, under the same keys."""
    from sextant_scheduler.api.submissions import Submissions
    from sextant_scheduler.handlers.submission import new_job
    from sextant_shared.contracts.specs import SPEC

    wanted = TypeAdapter(dict[str, Any]).validate_json((Path(config.directory) / "wanted.json").read_bytes())
    ledger = Path(config.directory) / "ledger.txt"
    answered = {line.split("\t")[0] for line in ledger.read_text().splitlines()} if ledger.exists() else set()

    async def run() -> None:
        bus = await Bus.connect(config.nats_url, "submitter")
        submissions = Submissions(connect_autocommit(config.database_url, size=1), bus, faults)
        for key, spec in wanted.items():
            if key not in answered:
                new = new_job(SPEC.validate_python(spec), tenant="default", actor="t", key=key, inputs={})
                told = await submissions.submit(new)
                with ledger.open("a") as file:
                    file.write(f"{key}\t{told.id}\n")
                    file.flush()
                    os.fsync(file.fileno())
        await bus.close()

    asyncio.run(run())


ROLES = {"control": control, "worker": worker, "agent": agent, "submitter": submitter}


def main(role: str, config: str, point: str | None = None) -> None:
    """Run the role."""
    made = TypeAdapter(Config).validate_json(config)
    ROLES[role](made, Dying(point, Path(made.directory) / "hits.txt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
