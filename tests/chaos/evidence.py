"""What a run has left: the store's rows as the model keeps them, the files of manifests, and the stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import nats
from nats.js.errors import NotFoundError
from sqlalchemy import Connection, Engine, text

from sextant_scheduler.domain.rounds import Message
from sextant_shared.lifecycle.machine import GANG_KINDS
from sextant_shared.lifecycle.states import State
from tests.simulation.model import Attempted, Audited, Kept, Node, Row, Store

AUDIT = (
    "SELECT subject_id, seq, at, actor, event, from_state, to_state, fence, attempt FROM audit"
    " WHERE subject_type = 'job' ORDER BY subject_id, seq"
)
OUTBOX = (
    "SELECT id, msg_id, subject, payload, published_at IS NOT NULL AS published FROM outbox"
    " WHERE subject LIKE 'jobs.%' ORDER BY id"
)


def read_store(engine: Engine) -> Store:
    """All committed rows of one moment, as the model keeps them."""
    with engine.connect().execution_options(isolation_level="REPEATABLE READ") as conn:
        store = Store(now=conn.execute(text("SELECT clock_timestamp()")).scalar_one())
        _jobs(conn, store)
        for row in conn.execute(text(AUDIT)):
            from_state = None if row.from_state is None else State(row.from_state)
            states = (from_state, State(row.to_state))
            entry = Audited(row.seq, row.at, row.actor, row.event, *states, row.fence, row.attempt)
            store.audit.setdefault(row.subject_id, []).append(entry)
        for row in conn.execute(text(OUTBOX)):
            store.outbox[row.id] = Kept(Message(row.id, row.msg_id, row.subject, row.payload), row.published)
        for row in conn.execute(text("SELECT job_id, fence, worker, ended_at, outcome FROM attempts")):
            store.attempts[row.job_id, row.fence] = Attempted(row.worker, row.ended_at is not None, row.outcome)
        for row in conn.execute(text("SELECT job_id, fence, outputs FROM manifests")):
            store.manifests[row.job_id] = (row.fence, row.outputs)
        for row in conn.execute(text("SELECT job_id, node, epoch, slots FROM reservations")):
            store.reservations[row.job_id, row.node] = (row.epoch, row.slots)
        for row in conn.execute(text("SELECT name, slots, state, last_seen FROM nodes")):
            store.nodes[row.name] = Node(row.slots, row.state, row.last_seen)
    return store


def _jobs(conn: Connection, store: Store) -> None:
    for row in conn.execute(text("SELECT * FROM jobs")).mappings():
        values: dict[str, Any] = {**row, "state": State(row["state"])}
        if row["kind"] in GANG_KINDS and row["lease_owner"]:
            # The agent that runs a gang is named after its node, which is what the model knows.
            values["lease_owner"] = row["lease_owner"].partition("/")[0]
        store.jobs[row["id"]] = Row(values)
        store.keys[row["tenant"], row["idem_key"]] = row["id"]


@dataclass
class Files:
    """Of the manifests: the files that each names, and where they must be."""

    root: Path
    named: dict[UUID, tuple[int, list[dict[str, Any]]]] = field(default_factory=dict)

    @classmethod
    def read(cls, engine: Engine, root: Path) -> Files:
        """What is committed."""
        with engine.connect() as conn:
            rows = conn.execute(text("SELECT job_id, fence, files FROM manifests")).all()
        return cls(root, {row.job_id: (row.fence, row.files) for row in rows})


async def read_stream(url: str) -> list[str]:
    """The message ids of all lifecycle events of jobs that the stream holds, in its order."""
    client = await nats.connect(url)
    found: list[str] = []
    try:
        stream = client.jetstream()
        try:
            await stream.stream_info("EVENTS")
        except NotFoundError:
            return []
        subscription = await stream.subscribe("jobs.>", ordered_consumer=True)
        info = await subscription.consumer_info()
        for _ in range((info.num_pending or 0) + (info.delivered.consumer_seq if info.delivered else 0)):
            message = await subscription.next_msg(timeout=5)
            found.append((message.headers or {}).get("Nats-Msg-Id", ""))
    finally:
        await client.close()
    return found


def seconds(at: datetime) -> float:
    """A time of the database's clock, which is this machine's."""
    return at.timestamp()
