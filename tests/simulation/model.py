"""The store as its rules say it is: what PostgreSQL keeps, refuses and locks, in dictionaries.

`tests/integration/sextant_shared/test_stateful.py` holds it equal to the real one: the same random sequences on both,
all rows compared after each step. What becomes of a job is not modelled: `machine.step` decides here as it does there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, cast
from uuid import UUID

from sextant_scheduler.domain.pipeline import Child
from sextant_scheduler.domain.placement import Node as LiveNode
from sextant_scheduler.domain.placement import Waiting
from sextant_scheduler.domain.rounds import Message
from sextant_shared.contracts.specs import CELERY_KINDS
from sextant_shared.errors import NotFound, StaleFence
from sextant_shared.lifecycle import machine
from sextant_shared.lifecycle.jobs import Beat, NewJob
from sextant_shared.lifecycle.machine import Complete, Decision, Event, Job, Refused, Transition
from sextant_shared.lifecycle.states import HELD, LEGAL, State

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)


class WallError(Exception):
    """What the database's own constraints and triggers refuse, whoever writes."""


class Blocked(Exception):
    """Another transaction holds the lock."""

    def __init__(self, holder: Tx) -> None:
        super().__init__("a lock is held")
        self.holder = holder


class Row:
    """A row of `jobs`: every column an attribute, so that the rules can read it as a `Job`. Replaced, never changed."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__ = values

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def with_(self, changes: dict[str, Any]) -> Row:
        """The row after an UPDATE."""
        return Row({**self.__dict__, **changes})


@dataclass(slots=True)
class Audited:
    """A row of `audit`, but for its hashes."""

    seq: int
    at: datetime
    actor: str
    event: str
    from_state: State | None
    to_state: State
    fence: int
    attempt: int


@dataclass(slots=True)
class Kept:
    """A row of `outbox`."""

    message: Message
    published: bool = False


@dataclass(slots=True)
class Attempted:
    """A row of `attempts`."""

    worker: str
    ended: bool = False
    outcome: str | None = None


@dataclass(slots=True)
class Node:
    """A row of `nodes`."""

    slots: int
    state: str
    last_seen: datetime


@dataclass(slots=True)
class Store:
    """What is committed, and who holds which lock."""

    now: datetime = EPOCH
    jobs: dict[UUID, Row] = field(default_factory=dict)
    keys: dict[tuple[str, str], UUID] = field(default_factory=dict)
    audit: dict[UUID, list[Audited]] = field(default_factory=dict)
    outbox: dict[int, Kept] = field(default_factory=dict)
    attempts: dict[tuple[UUID, int], Attempted] = field(default_factory=dict)
    manifests: dict[UUID, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    checkpoints: dict[tuple[UUID, int], int] = field(default_factory=dict)
    reservations: dict[tuple[UUID, str], tuple[int, int]] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    locks: dict[object, Tx] = field(default_factory=dict)
    outbox_id: int = 0

    def begin(self) -> Tx:
        """A transaction (READ COMMITTED: each read sees what is committed then, and its own writes)."""
        return Tx(self)


PLACEMENT = "placement"


class Tx:
    """One transaction. A call that would have to wait for a lock raises Blocked and has done nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: list[object] = []
        self._rows: dict[UUID, Row] = {}
        self._keys: dict[tuple[str, str], UUID] = {}
        self._audit: list[tuple[UUID, Audited]] = []
        self._outbox: list[Kept] = []
        self._published: list[int] = []
        self._attempts: dict[tuple[UUID, int], Attempted] = {}
        self._manifests: dict[UUID, tuple[int, dict[str, Any]]] = {}
        self._checkpoints: dict[tuple[UUID, int], int] = {}
        self._reserved: dict[tuple[UUID, str], tuple[int, int]] = {}
        self._freed: set[UUID] = set()
        self._silent: set[str] = set()

    def commit(self) -> None:
        """Make everything visible at once, and let the locks go."""
        store = self._store
        store.jobs.update(self._rows)
        store.keys.update(self._keys)
        for job_id, row in self._audit:
            store.audit.setdefault(job_id, []).append(row)
        for kept in self._outbox:
            store.outbox[kept.message.id] = kept
        for number in self._published:
            store.outbox[number].published = True
        store.attempts.update(self._attempts)
        store.manifests.update(self._manifests)
        store.checkpoints.update(self._checkpoints)
        if self._freed:
            store.reservations = {k: v for k, v in store.reservations.items() if k[0] not in self._freed}
        store.reservations.update(self._reserved)
        for name in self._silent:
            store.nodes[name] = replace(store.nodes[name], state="SILENT")
        self.rollback()

    def rollback(self) -> None:
        """Let the locks go; what was not committed is gone."""
        for key in self._held:
            del self._store.locks[key]
        self._held.clear()

    def touched(self) -> list[UUID]:
        """The jobs whose rows this transaction wrote."""
        return list(self._rows)

    def _lock(self, key: object) -> None:
        holder = self._store.locks.setdefault(key, self)
        if holder is not self:
            raise Blocked(holder)
        if key not in self._held:
            self._held.append(key)

    def _lock_free(self, ids: Sequence[UUID]) -> list[UUID]:
        """FOR UPDATE SKIP LOCKED: lock those that nobody else holds."""
        had = []
        for job_id in ids:
            try:
                self._lock(job_id)
            except Blocked:
                continue
            had.append(job_id)
        return had

    def _jobs(self) -> Iterable[Row]:
        return {**self._store.jobs, **self._rows}.values() if self._rows else self._store.jobs.values()

    def row(self, job_id: UUID) -> Row:
        """The job as this transaction sees it. Raises NotFound."""
        row = self._rows.get(job_id) or self._store.jobs.get(job_id)
        if row is None:
            raise NotFound(f"no job {job_id}")
        return row

    def lock(self, job_id: UUID) -> Job:
        """`jobs.lock`."""
        self.row(job_id)
        self._lock(job_id)
        return cast(Job, self.row(job_id))

    # What `sextant_shared.lifecycle.jobs` does.

    def submit(self, new: Sequence[NewJob]) -> list[tuple[UUID, bool, bool]]:
        """`jobs.submit`: for each its job, whether it was created, and whether the body is the same."""
        answers = []
        for job in new:
            key = (job.tenant, job.idem_key)
            known = self._keys.get(key) or self._store.keys.get(key)
            if known is None:
                self._lock(key)
                self._keys[key] = job.id
                self._insert(job)
            answers.append((known or job.id, known is None, self.row(known or job.id).body_hash == job.body_hash))
        return answers

    def _insert(self, job: NewJob) -> None:
        now = self._store.now
        values = {name: getattr(job, name) for name in NewJob.__slots__}
        row = Row(
            {
                **values,
                "created_by": job.actor,
                "event": "submitted",
                "detail": {"body_sha256": job.body_hash},
                "seq": 1,
                **dict.fromkeys(("fence", "epoch", "attempt", "errors", "worker_deaths"), 0),
                **dict.fromkeys(
                    ("lease_owner", "lease_until", "dispatched_at", "progress", "error", "started_at", "finished_at")
                ),
                **dict.fromkeys(("run_after", "created_at", "changed_at"), now),
            }
        )
        self._rows[job.id] = row
        self._record(None, row)

    def apply(self, job_id: UUID, event: Event, actor: str, rng: Random) -> tuple[Job, Decision]:
        """`jobs.apply`."""
        job = self.lock(job_id)
        decision = machine.step(job, event, self._store.now, rng)
        if isinstance(decision, Transition):
            self._write(cast(Row, job), decision, actor)
        return job, decision

    def _write(self, row: Row, move: Transition, actor: str) -> None:
        now = self._store.now
        values = {**machine.columns(cast(Job, row), move, now), "actor": actor, "changed_at": now}
        if move.state is State.RUNNING:
            values["started_at"] = row.started_at or now
        after = row.with_(values)
        self._guard(row, after)
        self._rows[row.id] = after
        self._record(row, after)
        if machine.frees_slots(cast(Job, row), move):
            self._freed.add(row.id)
            self._reserved = {k: v for k, v in self._reserved.items() if k[0] != row.id}

    @staticmethod
    def _guard(before: Row, after: Row) -> None:
        if after.fence != before.fence and not (after.fence == before.fence + 1 and after.state is State.RUNNING):
            raise WallError("the fence rises by one, at a claim")
        if after.state not in LEGAL.get(before.state, ()):
            raise WallError(f"{before.state} -> {after.state} is no legal transition")

    def _record(self, before: Row | None, row: Row) -> None:
        store = self._store
        came_from = before.state if before else None
        entry = Audited(row.seq, store.now, row.actor, row.event, came_from, row.state, row.fence, row.attempt)
        self._audit.append((row.id, entry))
        store.outbox_id += 1  # an identity: not given back by a rollback
        payload = {
            "job_id": str(row.id),
            "parent_id": str(row.parent_id) if row.parent_id else None,
            "kind": row.kind,
            "state": row.state,
        }
        subject = f"jobs.{row.kind}.{row.state.lower()}.v1"
        self._outbox.append(Kept(Message(store.outbox_id, f"{row.id}:{row.seq}", subject, payload)))
        if before is None:
            return
        key = (row.id, row.fence)
        if row.fence != before.fence:
            self._attempts[key] = Attempted(row.lease_owner)
        elif before.state in HELD and row.state not in HELD and (known := self._attempt(key)):
            self._attempts[key] = Attempted(known.worker, True, row.event)

    def _attempt(self, key: tuple[UUID, int]) -> Attempted | None:
        return self._attempts.get(key) or self._store.attempts.get(key)

    def heartbeat(self, job_id: UUID, fence: int, lease_s: float) -> Beat:
        """`jobs.heartbeat`."""
        row, now = self.row(job_id), self._store.now
        if not _beats(row, fence, now):
            raise StaleFence("the lease is lost")
        self._lock(job_id)
        self._rows[job_id] = row.with_({"lease_until": now + timedelta(seconds=lease_s)})
        return Beat(cancel=row.state is State.CANCELLING, pause=row.state is State.PAUSING)

    def complete(self, job_id: UUID, fence: int, outputs: dict[str, Any], actor: str, rng: Random) -> None:
        """`jobs.complete`."""
        _, decision = self.apply(job_id, Complete(fence), actor, rng)
        if isinstance(decision, Refused):
            raise StaleFence(decision.reason)
        self.write_manifest(job_id, fence, outputs)

    def write_manifest(self, job_id: UUID, fence: int, outputs: dict[str, Any]) -> None:
        """`jobs.write_manifest`."""
        if job_id in self._manifests or job_id in self._store.manifests:
            raise WallError("there is one manifest a job")
        self._manifests[job_id] = (fence, outputs)

    def commit_checkpoint(self, job_id: UUID, fence: int, step: int) -> None:
        """`jobs.commit_checkpoint`."""
        job = self.lock(job_id)
        if job.fence != fence or not job.state.is_held:
            raise StaleFence(f"fence {fence} is no longer valid")
        self._checkpoints[job_id, step] = fence

    def expired(self, limit: int) -> list[UUID]:
        """`jobs.expired`."""
        now = self._store.now
        due = [row.id for row in self._jobs() if row.lease_until is not None and row.lease_until < now]
        return self._lock_free(due)[:limit]

    def held_by(self, owner: str) -> list[Job]:
        """`jobs.held_by`."""
        return [cast(Job, row) for row in self._jobs() if row.lease_owner == owner and row.finished_at is None]

    # What `sextant_scheduler.store.control` and the trainer's store do.

    def unpublished(self, limit: int) -> list[Message]:
        """`control.unpublished`: rows that another transaction has locked are skipped."""
        taken: list[Message] = []
        for number in sorted(self._store.outbox):
            kept = self._store.outbox[number]
            if kept.published or len(taken) == limit:
                continue
            try:
                self._lock(number)
            except Blocked:
                continue
            taken.append(kept.message)
        return taken

    def mark_published(self, ids: Sequence[int]) -> None:
        """`control.mark_published`."""
        self._published += ids

    def due_retries(self, limit: int) -> list[UUID]:
        """`control.due_retries`."""
        now = self._store.now
        due = [row.id for row in self._jobs() if row.state is State.RETRY_WAIT and row.run_after <= now]
        return self._lock_free(due)[:limit]

    def next_queued(self, woken: UUID) -> UUID | None:
        """`jobs.next_queued`."""
        kind = self.row(woken).kind
        due = [row for row in self._jobs() if row.state is State.QUEUED and row.kind == kind]
        due = [row for row in due if row.run_after <= self._store.now]
        order = [row.id for row in sorted(due, key=queue_order)]
        first = next((job_id for job_id in order if self._store.locks.get(job_id, self) is self), None)
        if first := first or next(iter(order), None):
            self._lock(first)
        return first

    def to_dispatch(self, again_s: float, limit: int) -> list[tuple[UUID, str]]:
        """`control.to_dispatch`."""
        now = self._store.now
        before = now - timedelta(seconds=again_s)
        due = [
            row
            for row in self._jobs()
            if row.state is State.QUEUED
            and row.kind in CELERY_KINDS
            and row.run_after <= now
            and (row.dispatched_at is None or row.dispatched_at < before)
        ]
        return [(row.id, row.kind) for row in sorted(due, key=queue_order)[:limit]]

    def mark_dispatched(self, ids: Sequence[UUID]) -> None:
        """`control.mark_dispatched`."""
        queued = [job_id for job_id in ids if job_id in self._store.jobs and self.row(job_id).state is State.QUEUED]
        for job_id in self._lock_free(queued):
            self._rows[job_id] = self.row(job_id).with_({"dispatched_at": self._store.now})

    def forget_dispatched(self, kinds: Sequence[str], sent_s: float) -> int:
        """`control.forget_dispatched`."""
        before = self._store.now - timedelta(seconds=sent_s)
        sent = [
            row.id
            for row in self._jobs()
            if row.state is State.QUEUED and row.kind in kinds and row.dispatched_at and row.dispatched_at <= before
        ]
        free = self._lock_free(sent)
        for job_id in free:
            self._rows[job_id] = self.row(job_id).with_({"dispatched_at": None})
        return len(free)

    def waiting_gangs(self, limit: int) -> list[Waiting]:
        """`control.waiting_gangs`."""
        now = self._store.now
        ready = [r for r in self._jobs() if r.kind == "train" and r.state is State.QUEUED and r.run_after <= now]
        ordered = sorted(ready, key=queue_order)[:limit]
        wanted = [(row.id, row.spec.get("resources", {})) for row in ordered]
        return [Waiting(i, int(r.get("ranks", 1)), int(r.get("min_ranks") or r.get("ranks", 1))) for i, r in wanted]

    def lock_placement(self) -> bool:
        """`control.lock_placement`."""
        try:
            self._lock(PLACEMENT)
        except Blocked:
            return False
        return True

    def live_nodes(self, timeout_s: float) -> list[LiveNode]:
        """`control.live_nodes`."""
        used: dict[str, int] = {}
        for (job_id, node), (_, slots) in {**self._store.reservations, **self._reserved}.items():
            if job_id not in self._freed or (job_id, node) in self._reserved:
                used[node] = used.get(node, 0) + slots
        alive = self._store.now - timedelta(seconds=timeout_s)
        nodes = sorted(self._store.nodes.items())
        return [
            LiveNode(name, node.slots, node.slots - used.get(name, 0))
            for name, node in nodes
            if node.last_seen > alive and node.state == "READY" and name not in self._silent
        ]

    def reserve(self, job_id: UUID, epoch: int, shares: Mapping[str, int]) -> None:
        """`gangs.reserve`."""
        for node, slots in shares.items():
            key = (job_id, node)
            if key in self._reserved or (key in self._store.reservations and job_id not in self._freed):
                raise WallError("the gang has slots there already")
            self._reserved[key] = (epoch, slots)

    def release_lapsed(self) -> int:
        """`gangs.release_lapsed`; gangs of the model have one node, and so no members."""
        return 0

    def distrust(self, nodes: Collection[str]) -> None:
        """`gangs.distrust`."""
        for node in nodes:
            if node in self._store.nodes:
                self._lock(("node", node))
                self._silent.add(node)

    def open_pipelines(self) -> list[UUID]:
        """`control.open_pipelines`."""
        return [row.id for row in self._jobs() if row.kind == "pipeline" and row.finished_at is None]

    def children(self, parent_id: UUID) -> list[Child]:
        """`control.children`."""
        rows = sorted((row for row in self._jobs() if row.parent_id == parent_id), key=lambda row: row.id)
        manifests = {**self._store.manifests, **self._manifests}
        return [Child(row.id, row.step, row.state, manifests.get(row.id, (0, {}))[1]) for row in rows]

    def reserved_for(self, node: str) -> list[tuple[UUID, int]]:
        """`sextant_trainer.store.reserved_for`."""
        return [(r.id, r.epoch) for r in self._jobs() if r.state is State.RESERVED and r.lease_owner == node]


def queue_order(row: Row) -> tuple[bool, int, UUID]:
    """`jobs.QUEUE_ORDER`."""
    return row.attempt == 0, -row.priority, row.id


def _beats(row: Row, fence: int, now: datetime) -> bool:
    return bool(row.fence == fence and row.state in HELD and row.lease_until is not None and row.lease_until > now)
