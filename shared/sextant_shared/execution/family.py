"""The pieces of a work that was divided: made known as jobs, done here as far as no other worker does them, waited for.

Whoever leads does not hold a piece for another, and a worker that does a piece waits for nothing: so none waits for
one that waits for it, however many lead at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import structlog
from sqlalchemy.exc import OperationalError

from sextant_shared.artefacts import File
from sextant_shared.errors import NotFound
from sextant_shared.execution.workbench import Divided, Failed, Parts
from sextant_shared.execution.workshop import Workshop
from sextant_shared.faults import Point
from sextant_shared.lifecycle import jobs, pieces
from sextant_shared.lifecycle.machine import Cancel, Job
from sextant_shared.lifecycle.pieces import PieceJob
from sextant_shared.lifecycle.states import State
from sextant_shared.store import versions

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 0.3
CANCELLED = "the job whose piece this is was cancelled"
T = TypeVar("T")


class Family:
    """The pieces of one attempt's work."""

    def __init__(
        self,
        shop: Workshop,
        job: Job,
        run: Callable[[UUID], bool],
        say: Callable[[int, int], None],
        rng: Random,
    ) -> None:
        """`run` does a job here, unless another has it; `say` is told how many pieces of how many are done."""
        self._shop, self._job, self._run, self._say, self._rng = shop, job, run, say, rng
        self._ids: list[UUID] = []
        self._dismissed = threading.Event()
        self._for_good = False

    def see_through(self, divided: Divided) -> Parts | Failed | None:
        """Have all pieces done; None where the family was dismissed before that, and an error where a piece has one."""
        try:
            return self._seen_through(divided)
        finally:
            # Again, for what was made known while the wish was on its way.
            if self._for_good:
                self._call_off(CANCELLED)

    def _seen_through(self, divided: Divided) -> Parts | Failed | None:
        orders = {piece.digest: piece.order for piece in divided.pieces}
        useless: set[UUID] = set()
        while not self._dismissed.is_set():
            done = self._patiently(lambda: self._round(orders, useless))
            if done is None or isinstance(done, Failed):
                return done
            directories = self._fetched(done, useless)
            if len(directories) == len(orders):
                self._shop.faults.reach(Point.PIECES_FETCHED)
                reused = {job.digest for job in done if job.parent_id != self._job.id}
                return Parts(
                    note=divided.note,
                    directories=[directories[piece.digest] for piece in divided.pieces],
                    reused=sum(piece.digest in reused for piece in divided.pieces),
                )
        return None

    def dismiss(self, *, for_good: bool) -> None:
        """Stop waiting; `for_good` also cancels what was made for this job. Called on any thread."""
        self._for_good = self._for_good or for_good
        self._dismissed.set()
        if for_good:
            self._call_off(CANCELLED)

    def _patiently(self, call: Callable[[], T]) -> T | None:
        """Where the store is away, wait for it: whether that may last is the lease's to say."""
        while not self._dismissed.is_set():
            try:
                return call()
            except OperationalError as error:
                log.warning("pieces.store_unavailable", error=str(error.orig).splitlines()[0][:300])
                self._dismissed.wait(LOOK_EVERY_S)
        return None

    def _round(self, orders: Mapping[str, dict[str, Any]], useless: set[UUID]) -> list[PieceJob] | Failed | None:
        """The jobs of all pieces, ended: such as were cancelled by somebody else among them."""
        with self._shop.engine.begin() as conn:
            self._ids = list(pieces.enlist(conn, self._job, orders, useless, self._shop.worker).values())
            self._shop.faults.reach(Point.ENLIST_WRITTEN)
        self._shop.faults.reach(Point.ENLIST_COMMITTED)
        self._shop.bus.wake()
        while not self._dismissed.is_set():
            now = self._look()
            failed = next((job for job in now if job.state in (State.FAILED, State.QUARANTINED)), None)
            if failed is not None:
                self._call_off("another piece of the same job failed")
                return _failure(failed)
            ended = sum(job.state.is_terminal for job in now)
            self._say(ended, len(now))
            if ended == len(now):
                return now
            # The last first: messages wake the other workers for the first.
            if not self._help([job.id for job in reversed(now) if job.state is State.QUEUED]):
                self._dismissed.wait(LOOK_EVERY_S)
        return None

    def _help(self, free: list[UUID]) -> bool:
        """Do one of the pieces that nobody does; whether there was one."""
        return any(not self._dismissed.is_set() and self._run(job_id) for job_id in free)

    def _look(self) -> list[PieceJob]:
        with self._shop.engine.connect() as conn:
            return pieces.look(conn, self._ids)

    def _fetched(self, done: list[PieceJob], useless: set[UUID]) -> dict[str, str]:
        """Where the files of each piece are, by digest; jobs whose files are gone are useless from now on."""
        found: dict[str, str] = {}
        for job in done:
            try:
                found[job.digest] = self._fetch(job)
            except NotFound as error:
                log.warning("pieces.gone", piece=str(job.id), reason=error.message)
                useless.add(job.id)
        return found

    def _fetch(self, job: PieceJob) -> str:
        with self._shop.engine.connect() as conn:
            files = [File(**file) for file in pieces.files_of(conn, job.id)]
        if not files:
            raise NotFound(f"the job {job.id}, which is {job.state}, has no files")
        return str(self._shop.artefacts.fetch(versions.prefix_of(job.id, job.fence), files))

    def _call_off(self, reason: str) -> None:
        """Cancel what was made for this job. Where the store is away, it is left to be done by whoever comes to it."""
        try:
            own = [job.id for job in self._look() if job.parent_id == self._job.id and not job.state.is_terminal]
            for job_id in own:
                with self._shop.engine.begin() as conn:
                    jobs.apply(conn, job_id, Cancel(reason), actor=self._shop.worker, rng=self._rng)
        except OperationalError as error:
            log.warning("pieces.store_unavailable", error=str(error.orig).splitlines()[0][:300])
        self._shop.bus.wake()


def _failure(job: PieceJob) -> Failed:
    error = job.error or {}
    message = str(error.get("message") or f"its job {job.id} is {job.state}")
    if job.state is State.QUARANTINED:
        message = f"a piece of it was given up: {message}"
    return Failed(message=message, field=error.get("field"))
