"""The agent's loop: tells that the node is alive, and starts what was placed on it, as the leader or a member."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sextant_shared.contracts.messages import MEMBERSHIP, SUMMONED, NodeAlive
from sextant_shared.execution.supervisor import Supervisor
from sextant_shared.execution.workshop import Workshop
from sextant_shared.lifecycle import gangs
from sextant_trainer import store
from sextant_trainer.member import Members

log = structlog.get_logger(__name__)

RESERVED = "jobs.*.reserved.v1"


class Agent:
    """One node. Messages are hints; what is to be started stands in the store."""

    def __init__(
        self, shop: Workshop, supervisor: Supervisor, members: Members, alive: NodeAlive, alive_every_s: float
    ) -> None:
        self._shop = shop
        self._supervisor, self._members = supervisor, members
        self._alive = alive
        self._every_s = alive_every_s
        self._wake = threading.Event()
        self._stopping = False
        self._pool = ThreadPoolExecutor(alive.slots, thread_name_prefix="gang")
        self._gangs: dict[UUID, Future[bool]] = {}

    def stop(self) -> None:
        """Take no new gang, bring those that run to a checkpoint, and end."""
        self._stopping = True
        self._wake.set()

    def unready(self) -> str | None:
        """What keeps this node from work, if anything."""
        return None if self._shop.bus.connected else "NATS is not reachable"

    def run(self) -> None:
        """Work until `stop`."""
        for subject in (RESERVED, SUMMONED):
            self._shop.bus.subscribe(subject, lambda subject, payload: self._wake.set())
        told = 0.0
        while not self._stopping:
            if time.monotonic() - told >= self._every_s:
                told = time.monotonic()
                self._tell(draining=False)
            self._start_placed()
            self._wake.wait(self._every_s)
            self._wake.clear()
        self._tell(draining=True)
        self._supervisor.drain()
        self._members.drain()
        self._pool.shutdown(wait=True)

    def _tell(self, *, draining: bool) -> None:
        message = self._alive.model_copy(update={"draining": draining})
        self._shop.bus.publish(MEMBERSHIP, message.model_dump_json().encode())

    def _start_placed(self) -> None:
        try:
            with self._shop.engine.connect() as conn:
                reserved = store.reserved_for(conn, self._alive.name)
                summoned = gangs.summoned(conn, self._alive.name)
        except SQLAlchemyError as error:
            log.warning("agent.store_unavailable", error=type(error).__name__)
            return
        self._gangs = {job_id: gang for job_id, gang in self._gangs.items() if not gang.done()}
        for job_id, epoch in reserved:
            if job_id not in self._gangs:
                self._gangs[job_id] = self._pool.submit(self._supervisor.run, job_id, epoch)
        for job_id in summoned:
            if job_id not in self._gangs:
                self._gangs[job_id] = self._pool.submit(self._members.run, job_id)
