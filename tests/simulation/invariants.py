"""What must hold of the store whatever happened; the numbers are those of docs/reliability.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from sextant_shared.lifecycle.machine import MAX_WORKER_DEATHS
from sextant_shared.lifecycle.states import LEGAL, State
from tests.simulation.model import Audited, Row, Store

FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.SKIPPED})


class Violation(AssertionError):
    """An invariant does not hold."""


def check(store: Store, jobs: Iterable[UUID] | None = None) -> None:
    """Raise Violation where an invariant of the committed rows does not hold; of all jobs, or of these."""
    for job_id in store.jobs if jobs is None else jobs:
        if found := next(broken(store, job_id), None):
            raise Violation(f"{found} (job {job_id})")


def broken(store: Store, job_id: UUID) -> Iterator[str]:
    """Which invariants a job breaks."""
    row, log = store.jobs[job_id], store.audit[job_id]
    yield from _log(log)
    last = log[-1]
    if (row.state, row.fence, row.seq) != (last.to_state, last.fence, last.seq):
        yield f"I5: the row says {row.state} with fence {row.fence}, its log {last.to_state} with {last.fence}"
    yield from _manifest(store, row)
    if row.worker_deaths > MAX_WORKER_DEATHS or row.errors > row.max_attempts:
        yield f"I13: {row.worker_deaths} deaths and {row.errors} errors"
    if store.keys[row.tenant, row.idem_key] != job_id:
        yield "I2: two jobs have one key"
    yield from _lease(row)


def _log(log: list[Audited]) -> Iterator[str]:
    state: State | None = None
    fence = 0
    for number, entry in enumerate(log, 1):
        if entry.seq != number:
            yield f"I8: entry {number} has seq {entry.seq}"
        if entry.from_state is not state or entry.to_state not in LEGAL.get(state, ()):
            yield f"I6: {entry.from_state} -> {entry.to_state} after {state}"
        if state in FINAL:
            yield f"I4: {state} was left for {entry.to_state}"
        claimed = entry.event == "claimed"
        if entry.fence != fence + claimed:
            yield f"I7: the fence went from {fence} to {entry.fence} at {entry.event!r}"
        state, fence = entry.to_state, entry.fence
    if sum(entry.to_state is State.SUCCEEDED for entry in log) > 1:
        yield "I3: completed twice"


def _manifest(store: Store, row: Row) -> Iterator[str]:
    manifest = store.manifests.get(row.id)
    if (row.state is State.SUCCEEDED) != (manifest is not None):
        yield f"I12, I14: {row.state} {'with a' if manifest else 'without a'} manifest"
    if manifest is not None and manifest[0] != row.fence:
        yield f"I12: the manifest is that of fence {manifest[0]}, the job's is {row.fence}"


def _lease(row: Row) -> Iterator[str]:
    owned = row.state in (State.RUNNING, State.PAUSING, State.CANCELLING, State.RESERVED) and row.kind != "pipeline"
    if owned != (row.lease_until is not None) or owned != (row.lease_owner is not None):
        yield f"I15: {row.state} {'without' if owned else 'with'} a lease"


def check_outbox(store: Store) -> None:
    """I10: one message for each entry of the log."""
    wanted = {f"{job_id}:{entry.seq}" for job_id, log in store.audit.items() for entry in log}
    kept = [kept.message.msg_id for kept in store.outbox.values()]
    if len(kept) != len(wanted) or set(kept) != wanted:
        raise Violation(f"I10: {len(wanted)} entries in the logs, {len(kept)} messages")


def check_steps(store: Store) -> None:
    """I2: one job for each step of a pipeline."""
    steps = [(row.parent_id, row.step) for row in store.jobs.values() if row.parent_id is not None]
    if len(steps) != len(set(steps)):
        raise Violation("I2: two jobs for one step")


def check_slots(store: Store) -> None:
    """I16: no node gives more slots than it has, and only gangs that are reserved or held have any."""
    used: dict[str, int] = {}
    for (job_id, node), (epoch, slots) in store.reservations.items():
        used[node] = used.get(node, 0) + slots
        row = store.jobs[job_id]
        if row.lease_owner != node or row.epoch != epoch:
            raise Violation(f"I16: {node} holds slots for epoch {epoch} of job {job_id}, which is at {row.epoch}")
    for node, slots in used.items():
        if slots > store.nodes[node].slots:
            raise Violation(f"I16: {slots} slots of {node} are taken; it has {store.nodes[node].slots}")
    with_slots = {job_id for job_id, _ in store.reservations}
    for job_id, row in store.jobs.items():
        if row.kind == "train" and (row.lease_owner is not None) != (job_id in with_slots):
            raise Violation(
                f"I16: job {job_id} is {row.state}, and {'has' if job_id in with_slots else 'has no'} slots"
            )
