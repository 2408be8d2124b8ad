"""How long a job that a fault has hit waits until somebody works on it again, by the audit log's times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

from sextant_shared.contracts.specs import CELERY_KINDS
from sextant_shared.lifecycle.states import State
from tests.chaos.schedule import Fault
from tests.simulation.model import Audited, Store

OWNERS = {"data-prep": "a/data-prep", "exporter": "a/exporter", "data-prep@b": "b/data-prep", "trainer": "a/trainer"}
"""The names under which workers claim."""
LOST = "worker-lost"
TO_ALL = {("kill", "postgres"), ("crash-database", ""), ("fill-disk", "")}
TO_ALL |= {(kind, "postgres") for kind in ("latency", "slices", "reset", "partition")}
"""Faults that can cost the attempt of any worker: it cannot reach the store, or not write what it made."""
FROM_QUEUE = {("flush", ""), ("kill", "valkey")}


@dataclass(frozen=True, slots=True)
class Struck:
    """A fault, and when it struck: seconds of the machine's clock."""

    fault: Fault
    at: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """A job was hit, and somebody claimed it again, or it ended, so much later."""

    job_id: UUID
    fault: Fault
    seconds: float
    queued_s: float | None = None
    """After which it was there to be claimed, where it had lost an attempt; the rest is the wait behind others."""


def recoveries(store: Store, strikes: Sequence[Struck]) -> list[Recovery]:
    """Of every job that lost an attempt, and of every queued one whose message was lost."""
    return [found for job_id in store.jobs for found in _of_job(store, job_id, strikes)]


def _of_job(store: Store, job_id: UUID, strikes: Sequence[Struck]) -> Iterator[Recovery]:
    log = store.audit[job_id]
    for number, entry in enumerate(log):
        after = _next(log, number)
        if entry.event == LOST:
            claimed = next(e for e in reversed(log[:number]) if e.event == "claimed")
            owner = store.attempts[job_id, claimed.fence].worker
            hit = _cause(strikes, owner, claimed.at.timestamp(), entry.at.timestamp())
            if hit and after:
                since = max(hit.at, claimed.at.timestamp())
                yield Recovery(job_id, hit.fault, after.at.timestamp() - since, entry.at.timestamp() - since)
        elif entry.to_state is State.QUEUED and store.jobs[job_id].kind in CELERY_KINDS and after:
            began, ended = entry.at.timestamp(), after.at.timestamp()
            for strike in strikes:
                if (strike.fault.kind, strike.fault.target) in FROM_QUEUE and began < strike.at < ended:
                    yield Recovery(job_id, strike.fault, ended - strike.at)


def _next(log: list[Audited], number: int) -> Audited | None:
    """The first entry after this one at which somebody works on the job, or it has ended."""
    return next((e for e in log[number + 1 :] if e.event == "claimed" or e.to_state.is_terminal), None)


def _cause(strikes: Sequence[Struck], owner: str, claimed: float, lost: float) -> Struck | None:
    """The first fault since the claim that struck the worker, else that can have cost it the attempt, else any."""
    within = [strike for strike in strikes if claimed - strike.fault.lasts_s <= strike.at <= lost]
    own = [strike for strike in within if OWNERS.get(strike.fault.target) == owner]
    common = [strike for strike in within if (strike.fault.kind, strike.fault.target) in TO_ALL]
    return next(iter(own or common or within), None)
