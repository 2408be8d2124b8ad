"""One attempt of one job, from claim to commit. Holds the lease and the credentials; the work runs in a child."""

from __future__ import annotations

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from uuid import UUID

import structlog
from pydantic import ValidationError
from sqlalchemy import Connection, Engine

from sextant_shared.artefacts import Artefacts, File, digest_of
from sextant_shared.bus import ThreadedBus
from sextant_shared.contracts.messages import JobEvent, live_subject
from sextant_shared.errors import SextantError, StaleFence
from sextant_shared.execution.launching import Ending, Launcher, Running
from sextant_shared.execution.lease import Lease, Wish
from sextant_shared.execution.measures import Measures
from sextant_shared.execution.orders import make_order
from sextant_shared.execution.workbench import (
    WORK_EVENT,
    Checkpoint,
    Failed,
    Paused,
    Progress,
    Registration,
    Result,
    WorkEvent,
)
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import Claim, Died, Event, Fail, Job, Stopped, Transition
from sextant_shared.store import versions

log = structlog.get_logger(__name__)

GRACE_S = 10.0
WISHES = ("jobs.*.cancelling.v1", "jobs.*.pausing.v1")
"""What makes an attempt ask the store at once what its owner wants: a short run would be over by the next heartbeat."""
PAUSABLE = frozenset({"train"})


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a supervisor works with."""

    engine: Engine
    artefacts: Artefacts
    bus: ThreadedBus
    directory: Path
    worker: str
    lease_s: float
    launchers: dict[str, Launcher]
    measures: Measures
    service: Callable[[Job], dict[str, str]] = lambda job: {}


class Supervisor:
    """Runs jobs for one worker, one call a job; safe to use from several threads."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._rng = Random()
        self._running: set[Attempt] = set()
        self._lock = threading.Lock()

    def listen(self) -> None:
        """Let attempts learn of wishes when they are uttered. Without NATS they learn of them by heartbeat."""
        for subject in WISHES:
            self._shop.bus.subscribe(subject, self._on_wish)

    def _on_wish(self, subject: str, payload: bytes) -> None:
        try:
            job_id = JobEvent.model_validate_json(payload).job_id
        except ValidationError as error:
            log.warning("supervisor.bad_event", subject=subject, error=str(error)[:500])
            return
        with self._lock:
            concerned = [attempt for attempt in self._running if attempt.job_id == job_id]
        for attempt in concerned:
            attempt.hurry()

    def run(self, job_id: UUID, epoch: int | None = None) -> bool:
        """Claim the job and see it through; False where it is not to be had (a doubled or late message)."""
        job = self._claim(job_id, epoch)
        if job is None:
            return False
        attempt = Attempt(self._shop, job, self._rng)
        with self._lock:
            self._running.add(attempt)
        try:
            with structlog.contextvars.bound_contextvars(
                job_id=str(job.id), attempt=job.attempt, fence=job.fence, correlation_id=str(job.root_id)
            ):
                attempt.run()
        finally:
            with self._lock:
                self._running.discard(attempt)
        return True

    def drain(self) -> None:
        """Stop all attempts at their next chance and hand their jobs back."""
        with self._lock:
            attempts = list(self._running)
        for attempt in attempts:
            attempt.drain()

    def recover(self) -> int:
        """Hand back at once what an earlier process of the same worker held when it died; the number of jobs.

        Only to be called when nothing of that process can be alive any more: see `identity.WorkerLock`.
        """
        with self._shop.engine.begin() as conn:
            held = jobs.held_by(conn, self._shop.worker)
            for job in held:
                event = Died(job.fence, "the worker process died")
                jobs.apply(conn, job.id, event, actor=self._shop.worker, rng=self._rng)
        if held:
            self._shop.bus.wake()
        return len(held)

    def _claim(self, job_id: UUID, epoch: int | None) -> Job | None:
        event = Claim(self._shop.worker, self._shop.lease_s, epoch)
        with self._shop.engine.begin() as conn:
            job, decision = jobs.apply(conn, job_id, event, actor=self._shop.worker, rng=self._rng)
        if not isinstance(decision, Transition):
            log.info("claim.refused", job_id=str(job_id), decision=str(decision))
            return None
        claimed_at = decision.changes["lease_until"] - timedelta(seconds=self._shop.lease_s)
        self._shop.measures.claimed(job.kind, (claimed_at - job.run_after).total_seconds())
        return replace(job, state=decision.state, fence=job.fence + 1, attempt=job.attempt + 1)


class Attempt:
    """One claimed attempt."""

    def __init__(self, shop: Workshop, job: Job, rng: Random) -> None:
        self._shop = shop
        self._job = job
        self._rng = rng
        self._directory = shop.directory / str(job.id) / str(job.fence)
        self._progress: Progress | None = None
        self._published: Progress | None = None
        self._log_offset = 0
        self._work: Running | None = None
        self._killer: threading.Timer | None = None
        self._lease = Lease(shop.lease_s, self._beat, self._obey, self._report)

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
            self._prepare()
            self._work = self._shop.launchers[self._job.kind].start(self._directory, self._ranks())
            if self._lease.wish is not Wish.GO_ON:
                self._obey(self._lease.wish)
            final = self._follow(self._work)
            ending = self._work.wait()
        except StaleFence:
            raise
        except (SextantError, OSError) as error:
            return self._end_badly(Failed(message=str(error), retriable=True))
        finally:
            if self._work:
                self._work.kill()
        self._report()
        try:
            return self._commit(final, ending)
        except OSError as error:
            # Such as a full disk under the artefacts: worth another try, and not the death of a worker.
            return self._end_badly(Failed(message=f"the results could not be stored: {error.strerror}", retriable=True))

    def _ranks(self) -> int:
        return int(self._job.spec.get("resources", {}).get("ranks", 1))

    def _prepare(self) -> None:
        (self._directory / "out").mkdir(parents=True, mode=0o700)
        with self._shop.engine.connect() as conn:
            order = make_order(conn, self._job, self._shop.artefacts, self._shop.service(self._job))
        (self._directory / "work.json").write_text(order.model_dump_json())

    def _follow(self, work: Running) -> Result | Paused | Failed | None:
        final: Result | Paused | Failed | None = None
        for line in work.events():
            match event := _parse(line):
                case Progress():
                    self._progress = event
                case Checkpoint():
                    self._commit_checkpoint(event)
                case Result() | Paused() | Failed():
                    final = event
        return final

    def _commit_checkpoint(self, event: Checkpoint) -> None:
        files = self._shop.artefacts.publish(self._directory / "out" / event.path, f"{self._prefix}/{event.path}")
        with self._shop.engine.begin() as conn:
            jobs.commit_checkpoint(
                conn,
                self._job.id,
                self._job.fence,
                step=event.step,
                samples=event.samples,
                path=f"{self._job.fence}/{event.path}",
                files=[file.plain() for file in files],
            )

    @property
    def _prefix(self) -> str:
        return versions.prefix_of(self._job.id, self._job.fence)

    def _commit(self, final: Result | Paused | Failed | None, ending: Ending) -> str:
        if self._lease.wish is Wish.LOST:
            raise StaleFence("the lease was lost while the work ran")
        if isinstance(final, Result) and ending.clean:
            return self._succeed(final)
        if isinstance(final, Failed):
            return self._end_badly(final)
        if isinstance(final, Paused) or self._lease.wish in (Wish.CANCEL, Wish.PAUSE, Wish.DRAIN):
            return self._write(Stopped(self._job.fence), "stopped")
        who = "" if ending.failed_rank is None else f" (rank {ending.failed_rank} first)"
        return self._write(Died(self._job.fence, f"the work's process ended with {_named(ending)}{who}"), "died")

    def _succeed(self, result: Result) -> str:
        log_file = self._directory / "log.txt"
        if log_file.is_file() and log_file.stat().st_size:
            log_file.replace(self._directory / "out" / "log.txt")
        files = self._shop.artefacts.publish(self._directory / "out", self._prefix)
        by_path = {file.path: file for file in files}
        outputs = dict(result.outputs)
        job = self._job
        with self._shop.engine.begin() as conn:
            # The lock on the job's row comes first in every transaction, so that none waits for another in a circle.
            jobs.lock(conn, job.id)
            for item in result.registers:
                outputs[item.output] = self._register(conn, item, [by_path[path] for path in item.files])
            plain = [file.plain() for file in files]
            jobs.complete(conn, job.id, job.fence, files=plain, outputs=outputs, actor=self._shop.worker, rng=self._rng)
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
        error: dict[str, object] = {"message": failed.message[:4000]}
        if failed.field:
            error["field"] = failed.field
        return self._write(Fail(self._job.fence, error, failed.retriable), "failed")

    def _write(self, event: Event, outcome: str) -> str:
        with self._shop.engine.begin() as conn:
            _, decision = jobs.apply(conn, self._job.id, event, actor=self._shop.worker, rng=self._rng)
        jobs.insist(decision)
        return outcome

    def _beat(self) -> jobs.Beat:
        progress = self._progress
        with self._shop.engine.begin() as conn:
            text = progress.model_dump_json(exclude={"type"}) if progress else None
            return jobs.heartbeat(conn, self._job.id, self._job.fence, self._shop.lease_s, text)

    def _obey(self, wish: Wish) -> None:
        log.info("attempt.wish", wish=wish.name)
        work = self._work
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

    def _report(self) -> None:
        """Publish what is new of progress and log; people watch it live, and nothing depends on it."""
        progress = self._progress
        if progress is not self._published and progress is not None:
            self._published = progress
            self._shop.measures.progressed(str(self._job.id), progress.metrics)
            self._publish("progress", progress.model_dump(exclude={"type"}))
        log_file = self._directory / "log.txt"
        try:
            with log_file.open("rb") as stream:
                stream.seek(self._log_offset)
                new = stream.read(64 << 10)
        except FileNotFoundError:
            return
        if whole := new[: new.rfind(b"\n") + 1]:
            self._log_offset += len(whole)
            self._publish("log", {"text": whole.decode(errors="replace")})

    def _publish(self, what: str, body: dict[str, object]) -> None:
        subject = live_subject(self._job.root_id, self._job.id, "log" if what == "log" else "progress")
        payload = {"job_id": str(self._job.id), "kind": self._job.kind, "step": self._job.step, "what": what, **body}
        self._shop.bus.publish(subject, json.dumps(payload).encode())


def _parse(line: bytes) -> WorkEvent | None:
    try:
        return WORK_EVENT.validate_json(line)
    except ValidationError as error:
        log.warning("attempt.bad_event", error=str(error)[:500])
        return None


def _named(ending: Ending) -> str:
    def name(code: int) -> str:
        return signal.Signals(-code).name if code < 0 else f"status {code}"

    return ", ".join(sorted({name(code) for code in ending.exit_codes if code != 0})) or "status 0 and no result"
