"""The model's counterpart: the product's own statements on a real PostgreSQL, whose clock is set by the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import IntegrityError

from sextant_migrations import chain
from sextant_scheduler.domain.pipeline import Child
from sextant_scheduler.domain.placement import Node as LiveNode
from sextant_scheduler.domain.placement import Waiting
from sextant_scheduler.domain.rounds import Message
from sextant_scheduler.store import control
from sextant_shared.contracts.messages import NodeAlive
from sextant_shared.lifecycle import gangs, jobs
from sextant_shared.lifecycle.jobs import Beat, NewJob
from sextant_shared.lifecycle.machine import Decision, Event, Job
from sextant_shared.lifecycle.states import State
from sextant_shared.store.engine import connect
from sextant_trainer.store import reserved_for
from tests.simulation.model import Store, WallError

# A schema that comes before pg_catalog: whatever asks for the time without naming a schema asks this function.
CLOCK = """
CREATE TABLE test_clock (at timestamptz NOT NULL);
INSERT INTO test_clock VALUES ('2030-01-01T00:00:00Z');
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT at FROM public.test_clock';
"""
TABLES = (
    "audit",
    "outbox",
    "attempts",
    "manifests",
    "checkpoints",
    "checkpoint_parts",
    "reservations",
    "nodes",
    "jobs",
)
# Columns that the model keeps; the others are hashes.
COLUMNS = [
    "tenant",
    "kind",
    "name",
    "idem_key",
    "priority",
    "root_id",
    "parent_id",
    "step",
    "inputs",
    "state",
    "seq",
    "actor",
    "event",
    "detail",
    "changed_at",
    "fence",
    "epoch",
    "attempt",
    "errors",
    "worker_deaths",
    "max_attempts",
    "backoff_s",
    "lease_owner",
    "lease_until",
    "run_after",
    "dispatched_at",
    "error",
    "created_by",
    "created_at",
    "started_at",
    "finished_at",
]
# Row, log entry and message of the newest change were written by one transaction. A row that was changed since without
# a new seq (a heartbeat, a mark) has another xmin, and so has a message that was marked as published.
TORN = """
SELECT j.id, j.seq FROM jobs j LEFT JOIN audit a ON a.subject_id = j.id AND a.seq = j.seq
LEFT JOIN outbox o ON o.msg_id = j.id || ':' || j.seq
WHERE a.seq IS NULL OR o.id IS NULL OR (o.published_at IS NULL AND a.xmin <> o.xmin)
   OR j.xmin::text::bigint < a.xmin::text::bigint
"""


class RealTx:
    """One transaction on PostgreSQL with the calls of `model.Tx`."""

    def __init__(self, engine: Engine) -> None:
        self.conn: Connection = engine.connect()
        self._open = self.conn.begin()
        self.pid = int(self.conn.execute(text("SELECT pg_backend_pid()")).scalar_one())

    def commit(self) -> None:
        if self._open.is_active:
            self._open.commit()
        self.conn.close()

    def rollback(self) -> None:
        if self._open.is_active:
            self._open.rollback()
        self.conn.close()

    def lock(self, job_id: UUID) -> Job:
        return jobs.lock(self.conn, job_id)[0]

    def submit(self, new: Sequence[NewJob]) -> list[tuple[UUID, bool, bool]]:
        return [(each.id, each.created, each.same_body) for each in jobs.submit(self.conn, new)]

    def apply(self, job_id: UUID, event: Event, actor: str, rng: Random) -> tuple[Job, Decision]:
        told: tuple[Job, Decision] = self._guarded(lambda: jobs.apply(self.conn, job_id, event, actor=actor, rng=rng))
        return told

    def heartbeat(self, job_id: UUID, fence: int, lease_s: float) -> Beat:
        return jobs.heartbeat(self.conn, job_id, fence, lease_s)

    def complete(self, job_id: UUID, fence: int, outputs: dict[str, Any], actor: str, rng: Random) -> None:
        self._guarded(lambda: jobs.complete(self.conn, job_id, fence, files=[], outputs=outputs, actor=actor, rng=rng))

    def write_manifest(self, job_id: UUID, fence: int, outputs: dict[str, Any]) -> None:
        self._guarded(lambda: jobs.write_manifest(self.conn, job_id, fence, [], outputs))

    @staticmethod
    def _guarded(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except IntegrityError as error:
            raise WallError(str(error.orig)) from None

    def commit_checkpoint(self, job_id: UUID, fence: int, step: int) -> None:
        jobs.commit_checkpoint(self.conn, job_id, fence, step=step, samples=step, path=str(fence), files=[])

    def expired(self, limit: int) -> list[UUID]:
        return jobs.expired(self.conn, limit)

    def held_by(self, owner: str) -> list[Job]:
        return jobs.held_by(self.conn, owner)

    def unpublished(self, limit: int) -> list[Message]:
        return control.unpublished(self.conn, limit)

    def mark_published(self, ids: Sequence[int]) -> None:
        control.mark_published(self.conn, ids)

    def due_retries(self, limit: int) -> list[UUID]:
        return control.due_retries(self.conn, limit)

    def next_queued(self, woken: UUID) -> UUID | None:
        return jobs.next_queued(self.conn, woken)

    def to_dispatch(self, again_s: float, limit: int) -> list[tuple[UUID, str]]:
        return control.to_dispatch(self.conn, again_s, limit)

    def mark_dispatched(self, ids: Sequence[UUID]) -> None:
        control.mark_dispatched(self.conn, ids)

    def forget_dispatched(self, kinds: Sequence[str], sent_s: float) -> int:
        return control.forget_dispatched(self.conn, kinds, sent_s)

    def waiting_gangs(self, limit: int) -> list[Waiting]:
        return control.waiting_gangs(self.conn, limit)

    def lock_placement(self) -> bool:
        return control.lock_placement(self.conn)

    def live_nodes(self, timeout_s: float) -> list[LiveNode]:
        return control.live_nodes(self.conn, timeout_s)

    def reserve(self, job_id: UUID, epoch: int, shares: Mapping[str, int]) -> None:
        self._guarded(lambda: gangs.reserve(self.conn, job_id, epoch, shares))

    def release_lapsed(self) -> int:
        return gangs.release_lapsed(self.conn)

    def distrust(self, nodes: Collection[str]) -> None:
        gangs.distrust(self.conn, nodes)

    def open_pipelines(self) -> list[UUID]:
        return control.open_pipelines(self.conn)

    def children(self, parent_id: UUID) -> list[Child]:
        rows = control.children(self.conn, parent_id)
        return [Child(row.id, row.step, State(row.state), row.outputs or {}) for row in rows]

    def reserved_for(self, node: str) -> list[tuple[UUID, int]]:
        return reserved_for(self.conn, node)


class RealStore:
    """A database of its own."""

    def __init__(self, url: str) -> None:
        first = create_engine(url)
        with first.begin() as conn:
            name = conn.execute(text("SELECT current_database()")).scalar_one()
            conn.execute(text(f"ALTER DATABASE {name} SET search_path = public, pg_catalog"))
            conn.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
            conn.execute(text(CLOCK))
        first.dispose()
        self.engine = connect(url)
        with self.engine.begin() as conn:
            chain.upgrade(conn)

    def close(self) -> None:
        self.engine.dispose()

    def begin(self) -> RealTx:
        return RealTx(self.engine)

    def clear(self) -> None:
        """Forget all rows; the append-only log can be emptied by a superuser that turns its triggers off."""
        with self.engine.begin() as conn:
            conn.execute(text("SET LOCAL session_replication_role = replica"))
            for table in TABLES:
                conn.execute(text(f"DELETE FROM {table}"))

    def set_time(self, store: Store) -> None:
        with self.engine.begin() as conn:
            conn.execute(text("UPDATE test_clock SET at = :at"), {"at": store.now})

    def record_node(self, name: str, slots: int, *, draining: bool) -> None:
        with self.engine.begin() as conn:
            control.record_node(conn, NodeAlive(name=name, instance="i", slots=slots, draining=draining))

    def differences(self, store: Store) -> list[str]:
        """Where the rows of the two differ; nothing where they are the same."""
        with self.engine.connect() as conn:
            found = {name: read(conn) for name, read in READS.items()}
            torn = [tuple(row) for row in conn.execute(text(TORN))]
        modelled = _modelled(store)
        different = [f"{name}: {line}" for name in READS for line in _compare(found[name], modelled[name])]
        return different + [f"job {job_id} at seq {seq} was not written as one" for job_id, seq in torn]

    def race(self, first: Callable[[RealTx], Any], second: Callable[[RealTx], Any]) -> tuple[Any, bool, Any]:
        """What two transactions give of which the second begins when the first has written, as the model's
        `one_after_the_other`.
        """
        one, two = self.begin(), self.begin()
        told = first(one)
        answer: list[Any] = []
        thread = threading.Thread(target=lambda: answer.append(second(two)))
        thread.start()
        waited = self._wait(thread, two.pid)
        if waited:
            one.commit()
        thread.join(20)
        assert not thread.is_alive()
        two.commit()
        if not waited:
            one.commit()
        return told, waited, answer[0]

    def _wait(self, thread: threading.Thread, pid: int) -> bool:
        """Until the thread has ended or its connection waits for a lock; whether it waits."""
        until = time.monotonic() + 20
        with self.engine.connect() as conn:
            while thread.is_alive() and time.monotonic() < until:
                if conn.execute(text("SELECT cardinality(pg_blocking_pids(:pid))"), {"pid": pid}).scalar_one():
                    return True
        return False


def _select(sql: str, *keys: str) -> Callable[[Connection], dict[Any, dict[str, Any]]]:
    def read(conn: Connection) -> dict[Any, dict[str, Any]]:
        rows = [dict(row) for row in conn.execute(text(sql)).mappings()]
        return {tuple(row[key] for key in keys): row for row in rows}

    return read


READS = {
    "jobs": _select(f"SELECT id, {', '.join(COLUMNS)} FROM jobs", "id"),
    "audit": _select(
        "SELECT subject_id, seq, at, actor, event, from_state, to_state, fence, attempt FROM audit", "subject_id", "seq"
    ),
    "outbox": _select("SELECT msg_id, subject, published_at IS NOT NULL AS published FROM outbox", "msg_id"),
    "attempts": _select(
        "SELECT job_id, fence, worker, ended_at IS NOT NULL AS ended, outcome FROM attempts", "job_id", "fence"
    ),
    "manifests": _select("SELECT job_id, fence, outputs FROM manifests", "job_id"),
    "checkpoints": _select("SELECT job_id, step, fence FROM checkpoints", "job_id", "step"),
    "reservations": _select("SELECT job_id, node, epoch, slots FROM reservations", "job_id", "node"),
    "nodes": _select("SELECT name, slots, state, last_seen FROM nodes", "name"),
}


def _modelled(store: Store) -> dict[str, dict[Any, dict[str, Any]]]:
    entries = [(job_id, entry) for job_id, log in store.audit.items() for entry in log]
    fields = ("seq", "at", "actor", "event", "from_state", "to_state", "fence", "attempt")
    return {
        "jobs": {(row.id,): {c: getattr(row, c) for c in ("id", *COLUMNS)} for row in store.jobs.values()},
        "audit": {
            (job_id, entry.seq): {"subject_id": job_id, **{name: getattr(entry, name) for name in fields}}
            for job_id, entry in entries
        },
        "outbox": {
            (kept.message.msg_id,): {
                "msg_id": kept.message.msg_id,
                "subject": kept.message.subject,
                "published": kept.published,
            }
            for kept in store.outbox.values()
        },
        "attempts": {
            (job_id, fence): {
                "job_id": job_id,
                "fence": fence,
                "worker": attempt.worker,
                "ended": attempt.ended,
                "outcome": attempt.outcome,
            }
            for (job_id, fence), attempt in store.attempts.items()
        },
        "manifests": {
            (job_id,): {"job_id": job_id, "fence": fence, "outputs": outputs}
            for job_id, (fence, outputs) in store.manifests.items()
        },
        "checkpoints": {
            (job_id, step): {"job_id": job_id, "step": step, "fence": fence}
            for (job_id, step), fence in store.checkpoints.items()
        },
        "reservations": {
            (job_id, node): {"job_id": job_id, "node": node, "epoch": epoch, "slots": slots}
            for (job_id, node), (epoch, slots) in store.reservations.items()
        },
        "nodes": {
            (name,): {"name": name, "slots": node.slots, "state": node.state, "last_seen": node.last_seen}
            for name, node in store.nodes.items()
        },
    }


def _compare(found: dict[Any, dict[str, Any]], modelled: dict[Any, dict[str, Any]]) -> list[str]:
    lines = [f"{key} only in the model" for key in modelled.keys() - found.keys()]
    lines += [f"{key} only in the store" for key in found.keys() - modelled.keys()]
    for key in found.keys() & modelled.keys():
        real, model = found[key], modelled[key]
        lines += [f"{key} {c}: model {model[c]!r}, store {real[c]!r}" for c in real if real[c] != model[c]]
    return lines
