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
from sextant_shared.execution.workbench import Checkpoint, Divided, Piece, Result, WorkOrder
from sextant_shared.execution.worker import lock_worker
from sextant_shared.execution.workshop import Workshop
from sextant_shared.faults import Point
from sextant_shared.lifecycle.place import Place
from sextant_shared.store.engine import connect, connect_async, connect_autocommit

STATUS = 9
LEASE_S = 10.0
"""Longer than a process takes to start: what a worker held when it died is its successor's to recover."""
NODES = {"agent": ("crash-node", 2), "second": ("second-node", 1)}
"""Name and slots by role: a gang of three needs both, and the one with more slots leads."""
METRIC = "accuracy"


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


class Threaded:
    """Work without a process."""

    meeting: str | None = "127.0.0.1:1"

    def processes(self) -> tuple[()]:
        return ()

    def wait(self) -> Ending:
        return Ending((0,))

    def signal(self, number: Any) -> None:
        return

    def kill(self) -> None:
        return


class Training(Threaded):
    """Work that makes a checkpoint and then a result."""

    def start(self, directory: Path, place: Place) -> Running:
        (directory / "out" / "step").mkdir()
        (directory / "out" / "step" / "weights.bin").write_bytes(b"weights")
        return self

    def events(self) -> Iterator[bytes]:
        yield Checkpoint(path="step", step=1, samples=8).model_dump_json().encode()
        time.sleep(0.2)
        yield Result(outputs={"metrics": {METRIC: 0.5}}).model_dump_json().encode()


class Dividing(Threaded):
    """Work that wants two pieces done first."""

    order: WorkOrder

    def start(self, directory: Path, place: Place) -> Running:
        made = Dividing()
        made.order = WorkOrder.model_validate_json((directory / "work.json").read_bytes())
        (directory / "out" / "rows.bin").write_bytes(made.order.job_id.encode())
        return made

    def events(self) -> Iterator[bytes]:
        if self.order.parts or "piece" in self.order.inputs:
            yield Result(outputs={}).model_dump_json().encode()
        else:
            pieces = [Piece(digest=f"{number}{self.order.job_id}", order={}) for number in range(2)]
            yield Divided(pieces=pieces, note={}).model_dump_json().encode()


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
    """Its work stands in a directory of its own: processes of several nodes run on one machine here."""
    settings = config.settings
    return Workshop(
        engine=connect(settings.database_url),
        artefacts=Artefacts(settings.artefacts_url, settings.work_dir / "cache"),
        bus=ThreadedBus(settings.nats_url, worker),
        directory=settings.work_dir / worker,
        worker=worker,
        lease_s=LEASE_S,
        launchers={"probe": Filing(), "train": Training(), "prepare": Dividing()},
        measures=Measures(CollectorRegistry()),
        faults=faults,
    )


def worker(config: Config, faults: Dying, name: str = "worker", kind: str = "probe") -> None:
    """As `execution.worker.run_worker`."""
    from sextant_shared import queue

    lock = lock_worker(config.settings.work_dir, name)
    supervisor = Supervisor(_workshop(config, faults, f"crash-{name}"))
    supervisor.listen()
    supervisor.recover()
    app = queue.build_queue(config.redis_url)

    @app.task(name=queue.TASK)  # type: ignore[untyped-decorator]
    def run(job_id: str) -> None:
        supervisor.run_next(UUID(job_id))

    quiet = {"without_gossip": True, "without_mingle": True, "without_heartbeat": True, "quiet": True}
    app.Worker(pool="threads", concurrency=1, queues=[kind], loglevel="WARNING", **quiet).start()
    del lock


def divider(config: Config, faults: Dying) -> None:
    """A worker whose jobs are divided."""
    worker(config, faults, "divider", "prepare")


def agent(config: Config, faults: Dying, role: str = "agent") -> None:
    """As `sextant_trainer.app.run`."""
    from sextant_shared.contracts.messages import NodeAlive
    from sextant_trainer.consumer import Agent
    from sextant_trainer.member import Members

    node, slots = NODES[role]
    lock = lock_worker(config.settings.work_dir, role)
    shop = _workshop(config, faults, f"{node}/trainer")
    supervisor = Supervisor(shop)
    supervisor.listen()
    supervisor.recover()
    members = Members(shop, shop.launchers["train"], node)
    members.recover()
    Agent(shop, supervisor, members, NodeAlive(name=node, instance=str(os.getpid()), slots=slots), 0.5).run()
    del lock


def second(config: Config, faults: Dying) -> None:
    """The node that is a member where the other leads."""
    agent(config, faults, "second")


def tuner(config: Config, faults: Dying) -> None:
    """As `sextant_tuner.app.main`."""
    from sextant_tuner.consumer import TunerLoop

    async def run() -> None:
        bus = await Bus.connect(config.nats_url, "tuner")
        engine = connect_async(config.database_url, size=2)
        await TunerLoop(engine, bus, Random(), CollectorRegistry(), faults).run()

    asyncio.run(run())


def notary(config: Config, faults: Dying) -> None:
    """As `app.run_notary`."""
    from sextant_scheduler.handlers.notary import Seals
    from sextant_scheduler.metrics import NotaryMetrics
    from sextant_scheduler.notary_loop import NotaryLoop

    seals = Seals(Path(config.directory) / "notary")
    NotaryLoop(connect(config.database_url, size=1), seals, NotaryMetrics(CollectorRegistry()), faults).run()


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


ROLES = {role.__name__: role for role in (control, worker, divider, agent, second, tuner, notary, submitter)}


def main(role: str, config: str, point: str | None = None) -> None:
    """Run the role."""
    made = TypeAdapter(Config).validate_json(config)
    ROLES[role](made, Dying(point, Path(made.directory) / "hits.txt"))


if __name__ == "__main__":
    main(*sys.argv[1:])
