"""One attempt of one job, from claim to commit. Holds the lease and the credentials; the work runs in a child."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from collections.abc import Callable
from random import Random
from uuid import UUID

import structlog
from sqlalchemy import Connection

from sextant_shared.artefacts import File, digest_of
from sextant_shared.contracts.limits import Limits
from sextant_shared.errors import SextantError, StaleFence
from sextant_shared.execution import checkpoints
from sextant_shared.execution.company import Company
from sextant_shared.execution.family import Family
from sextant_shared.execution.hold import Hold, Wish, conclude, failure
from sextant_shared.execution.launching import Ending, Running
from sextant_shared.execution.lease import Lease
from sextant_shared.execution.live import Live
from sextant_shared.execution.orders import hand_over, lay_out
from sextant_shared.execution.quota import Quota
from sextant_shared.execution.workbench import (
    Checkpoint,
    Divided,
    Failed,
    Parts,
    Paused,
    Progress,
    Registration,
    Result,
    parse_event,
)
from sextant_shared.execution.workshop import Workshop
from sextant_shared.faults import Point
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import GANG_KINDS, Complete, Died, Event, Fail, Job, Stopped
from sextant_shared.lifecycle.place import Place
from sextant_shared.store import versions

log = structlog.get_logger(__name__)

GRACE_S = 10.0
Final = Result | Divided | Paused | Failed | None
"""The last that the work told of itself."""
PAUSABLE = GANG_KINDS
OUTCOMES: dict[type[Event], str] = {Fail: "failed", Stopped: "stopped", Died: "died"}


class Attempt:
    """One claimed attempt."""

    def __init__(
        self,
        shop: Workshop,
        job: Job,
        hold: Hold,
        place: Place,
        node: str,
        rng: Random,
        run_piece: Callable[[UUID], bool],
    ) -> None:
        """`place` is this node's part of the work, and `node` its name among those of a gang.

        `run_piece` runs another job here, one that does a piece of this one's work, unless somebody else has it.
        `hold` counts from when the claim was sent: this process may have been stopped since.
        """
        self._shop = shop
        self._job = job
        self._place, self._node = place, node
        self._company = Company(shop, job, place)
        self._rng = rng
        self._directory = shop.directory / str(job.id) / str(job.fence)
        self._live = Live(shop, job, self._directory)
        self._family = Family(shop, job, run_piece, self._say, rng)
        self._work: Running | None = None
        self._killer: threading.Timer | None = None
        self._lease = Lease(hold, self._beat, self._obey, self._live.publish)

    @property
    def job_id(self) -> UUID:
        """The job's."""
        return self._job.id

    def hurry(self) -> None:
        """Ask soon what the job's owner wants."""
        self._lease.hurry()

    def drain(self) -> None:
        """Stop and hand the job back."""
        self._lease.wish_for(Wish.DRAIN)

    def run(self) -> None:
        """Do the work and commit how it ended. Never raises: what cannot be written is left to the reaper."""
        began = time.monotonic()
        outcome = "unknown"
        try:
            with self._lease:
                outcome = self._run_leased()
        except StaleFence as error:
            outcome = "lost"
            log.warning("attempt.lost", reason=error.message)
        except Exception:
            log.exception("attempt.broke")
        finally:
            if self._killer:
                self._killer.cancel()
            shutil.rmtree(self._directory, ignore_errors=True)
            self._shop.bus.wake()
            took_s = time.monotonic() - began
            self._shop.measures.ended(self._job.kind, str(self._job.id), outcome, took_s)
            log.info("attempt.ended", kind=self._job.kind, outcome=outcome, took_s=round(took_s, 3))

    def _run_leased(self) -> str:
        try:
            lay_out(self._shop, self._job, self._directory)
            self._lease.insist()
            self._shop.faults.reach(Point.ATTEMPT_PREPARED)
            final, ending = self._work_once()
            while isinstance(final, Divided) and ending.clean and self._lease.wish is Wish.GO_ON:
                self._work = None
                parts = self._family.see_through(final)
                if not isinstance(parts, Parts):
                    final = parts
                    break
                hand_over(self._directory, parts)
                final, ending = self._work_once()
        except StaleFence:
            raise
        except (SextantError, OSError) as error:
            return self._end_badly(Failed(message=str(error), retriable=True))
        finally:
            if self._work:
                self._work.kill()
        self._shop.faults.reach(Point.ATTEMPT_ENDED)
        self._live.publish()
        try:
            return self._commit(final, ending)
        except OSError as error:
            # Such as a full disk under the artefacts: worth another try, and not the death of a worker.
            return self._end_badly(Failed(message=f"the results could not be stored: {error.strerror}", retriable=True))

    def _work_once(self) -> tuple[Final, Ending]:
        self._work = work = self._shop.launchers[self._job.kind].start(self._directory, self._place)
        self._shop.faults.reach(Point.ATTEMPT_STARTED)
        self._company.call(work.meeting, self._node)
        if self._lease.wish is not Wish.GO_ON:
            self._obey(self._lease.wish)
        with Quota(self._limits(), work, self._directory) as quota:
            final = self._follow(work)
            ending = work.wait()
        return quota.breach or final, ending

    def _limits(self) -> Limits:
        own = self._job.spec.get("limits")
        return self._shop.limits.within(Limits.model_validate(own)) if own else self._shop.limits

    def _say(self, done: int, pieces: int) -> None:
        """How far the pieces are: most of the work, in their number."""
        self._live.progress = Progress(
            at=time.time(), fraction=0.05 + 0.45 * done / pieces, message="pieces", metrics={"done": done, "of": pieces}
        )

    def _follow(self, work: Running) -> Final:
        final: Final = None
        for line in work.events():
            match event := parse_event(line):
                case Progress():
                    self._live.progress = event
                case Checkpoint():
                    checkpoints.hand_in(self._shop, self._job, self._place, self._node, self._directory, event)
                case Result() | Divided() | Paused() | Failed():
                    final = event
        return final

    @property
    def _prefix(self) -> str:
        return versions.prefix_of(self._job.id, self._job.fence)

    def _commit(self, final: Final, ending: Ending) -> str:
        event = conclude(self._job.fence, final, ending, self._lease.wish, self._company.why)
        return self._succeed(final) if isinstance(event, Complete) and isinstance(final, Result) else self._write(event)

    def _succeed(self, result: Result) -> str:
        log_file = self._directory / "log.txt"
        if log_file.is_file() and log_file.stat().st_size:
            log_file.replace(self._directory / "out" / "log.txt")
        files = self._shop.artefacts.publish(self._directory / "out", self._prefix)
        by_path = {file.path: file for file in files}
        outputs = dict(result.outputs)
        job = self._job
        self._shop.faults.reach(Point.RESULT_STORED)
        with self._shop.engine.begin() as conn:
            # The lock on the job's row comes first in every transaction, so that none waits for another in a circle.
            jobs.lock(conn, job.id)
            for item in result.registers:
                outputs[item.output] = self._register(conn, item, [by_path[path] for path in item.files])
            plain = [file.plain() for file in files]
            jobs.complete(conn, job.id, job.fence, files=plain, outputs=outputs, actor=self._shop.worker, rng=self._rng)
            self._shop.faults.reach(Point.RESULT_WRITTEN)
        self._shop.faults.reach(Point.RESULT_COMMITTED)
        return "succeeded"

    def _register(self, conn: Connection, item: Registration, files: list[File]) -> dict[str, object]:
        return versions.register(
            conn,
            item.type,
            tenant=self._job.tenant,
            name=item.name,
            digest=digest_of(files),
            job_id=self._job.id,
            fence=self._job.fence,
            files=files,
            meta=item.meta,
        )

    def _end_badly(self, failed: Failed) -> str:
        return self._write(failure(self._job.fence, failed))

    def _write(self, event: Event) -> str:
        with self._shop.engine.begin() as conn:
            _, decision = jobs.apply(conn, self._job.id, event, actor=self._shop.worker, rng=self._rng)
            self._shop.faults.reach(Point.ENDING_WRITTEN)
        self._shop.faults.reach(Point.ENDING_COMMITTED)
        jobs.insist(decision)
        return OUTCOMES[type(event)]

    def _beat(self) -> jobs.Beat:
        progress = self._live.progress
        with self._shop.engine.begin() as conn:
            text = progress.model_dump_json(exclude={"type"}) if progress else None
            beat = jobs.heartbeat(conn, self._job.id, self._job.fence, self._shop.lease_s, text)
            if not self._company.look(conn) and self._work:
                # The ranks here wait for some that are gone, and would until they time out.
                self._work.kill()
            self._shop.faults.reach(Point.BEAT_WRITTEN)
        self._shop.faults.reach(Point.BEAT_COMMITTED)
        return beat

    def _obey(self, wish: Wish) -> None:
        log.info("attempt.wish", wish=wish.name)
        work = self._work
        self._family.dismiss(for_good=wish is Wish.CANCEL)
        if work is None:
            return
        if wish is Wish.LOST:
            work.kill()
            return
        keep = wish in (Wish.PAUSE, Wish.DRAIN) and self._job.kind in PAUSABLE
        work.signal(signal.SIGUSR1 if keep else signal.SIGTERM)
        self._killer = threading.Timer(GRACE_S, work.kill)
        self._killer.daemon = True
        self._killer.start()
