"""A node's part of a gang that another node leads: it joins, runs its ranks, stores checkpoints, and leaves.

It holds a lease of its own, which says that its ranks may be alive; the job is the leader's.
"""

from __future__ import annotations

import shutil
import signal
import threading
import time
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.exc import SQLAlchemyError

from sextant_shared.errors import SextantError, StaleFence
from sextant_shared.execution import checkpoints
from sextant_shared.execution.hold import Hold, Wish
from sextant_shared.execution.launching import Launcher, Running
from sextant_shared.execution.lease import Lease
from sextant_shared.execution.live import Live
from sextant_shared.execution.orders import lay_out
from sextant_shared.execution.quota import Quota
from sextant_shared.execution.workbench import Checkpoint, Failed, parse_event
from sextant_shared.execution.workshop import Workshop
from sextant_shared.faults import Point
from sextant_shared.lifecycle import gangs, jobs
from sextant_shared.lifecycle.machine import Job
from sextant_shared.lifecycle.place import Place

log = structlog.get_logger(__name__)


class Members:
    """Runs this node's memberships, one call each; safe to use from several threads."""

    def __init__(self, shop: Workshop, launcher: Launcher, node: str) -> None:
        self._shop, self._launcher, self._node = shop, launcher, node
        self._running: set[Member] = set()
        self._lock = threading.Lock()

    def run(self, job_id: UUID) -> bool:
        """Join the gang and see it through; False where it waits for this node no longer."""
        sent = time.monotonic()
        with self._shop.engine.begin() as conn:
            joined = gangs.join(conn, job_id, self._node, self._shop.lease_s)
            if joined is None:
                return False
            self._shop.faults.reach(Point.JOIN_WRITTEN)
        self._shop.faults.reach(Point.JOIN_COMMITTED)
        member = Member(self._shop, self._launcher, self._node, *joined, Hold.since(sent, self._shop.lease_s))
        with self._lock:
            self._running.add(member)
        try:
            with structlog.contextvars.bound_contextvars(job_id=str(job_id), fence=joined[0].fence):
                member.run()
        finally:
            with self._lock:
                self._running.discard(member)
        return True

    def drain(self) -> None:
        """Have all gangs that this node is a member of save, stop and start again elsewhere."""
        with self._lock:
            members = list(self._running)
        for member in members:
            member.drain()

    def recover(self) -> None:
        """Leave the gangs that an earlier process of this node was a member of when it died.

        Only to be called when nothing of that process can be alive any more: see `identity.WorkerLock`.
        """
        with self._shop.engine.begin() as conn:
            gangs.leave_all(conn, self._node, {"clean": False, "reason": "the agent died", "failed": None})


class Member:
    """One membership."""

    def __init__(self, shop: Workshop, launcher: Launcher, node: str, job: Job, place: Place, hold: Hold) -> None:
        self._shop, self._launcher, self._node, self._job, self._place = shop, launcher, node, job, place
        self._directory = shop.directory / str(job.id) / str(job.fence)
        self._live = Live(shop, job, self._directory, origin=f"{node}: ")
        self._work: Running | None = None
        self._lease = Lease(hold, self._beat, self._obey, self._live.publish)

    def drain(self) -> None:
        """Ask the gang to save and stop."""
        self._lease.wish_for(Wish.DRAIN)

    def run(self) -> None:
        """Run the ranks to their end and tell how they ended. Never raises: what cannot be told, the lease tells."""
        log.info("member.joined", node=self._node, first=self._place.first, ranks=self._place.ranks)
        try:
            with self._lease:
                ended = self._run_leased()
                with self._shop.engine.begin() as conn:
                    gangs.leave(conn, self._job.id, self._node, self._job.fence, ended)
                    self._shop.faults.reach(Point.LEAVE_WRITTEN)
                self._shop.faults.reach(Point.LEAVE_COMMITTED)
            log.info("member.left", **ended)
        except SQLAlchemyError as error:
            log.warning("member.store_unavailable", error=type(error).__name__)
        except Exception:
            log.exception("member.broke")
        finally:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _run_leased(self) -> dict[str, Any]:
        """How the ranks ended, as `gangs.leave` takes it."""
        failed: Failed | None = None
        try:
            lay_out(self._shop, self._job, self._directory)
            self._lease.insist()
            self._work = self._launcher.start(self._directory, self._place)
            if self._lease.wish is not Wish.GO_ON:
                self._obey(self._lease.wish)
            with Quota(self._shop.limits, self._work, self._directory) as quota:
                failed = self._follow(self._work)
                ending = self._work.wait()
            failed = quota.breach or failed
        except StaleFence as error:
            return {"clean": False, "reason": error.message, "failed": None}
        except (SextantError, OSError) as error:
            failed = Failed(message=str(error), retriable=True)
            return {"clean": False, "reason": failed.message, "failed": failed.model_dump()}
        finally:
            if self._work:
                self._work.kill()
        self._live.publish()
        reason = failed.message if failed else ending.told
        return {"clean": ending.clean, "reason": reason, "failed": failed.model_dump() if failed else None}

    def _follow(self, work: Running) -> Failed | None:
        failed: Failed | None = None
        for line in work.events():
            match event := parse_event(line):
                case Checkpoint():
                    checkpoints.hand_in(self._shop, self._job, self._place, self._node, self._directory, event)
                case Failed():
                    failed = event
        return failed

    def _beat(self) -> jobs.Beat:
        with self._shop.engine.begin() as conn:
            return gangs.heartbeat(conn, self._job.id, self._node, self._job.fence, self._shop.lease_s)

    def _obey(self, wish: Wish) -> None:
        log.info("member.wish", wish=wish.name)
        if self._work is None:
            return
        if wish is Wish.DRAIN:
            self._work.signal(signal.SIGUSR1)
        else:
            # Cancelled, or lost: the leader's ranks end as well, and nothing of these is needed.
            self._work.kill()
