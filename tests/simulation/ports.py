"""The rounds' ports on anything that has the calls of `model.Tx`, and a way to run them to their end without a loop."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol, TypeVar
from uuid import UUID

from sextant_scheduler.domain.pipeline import Child, CreateStep
from sextant_scheduler.domain.placement import Node as LiveNode
from sextant_scheduler.domain.placement import Waiting
from sextant_scheduler.domain.rounds import Message
from sextant_scheduler.handlers.pipelines import step_job
from sextant_shared.contracts.specs import PipelineSpec
from sextant_shared.lifecycle.jobs import Beat, NewJob
from sextant_shared.lifecycle.machine import Decision, Event, Job

T = TypeVar("T")
NODE_TIMEOUT_S = 20.0


class Transacted(Protocol):
    """What `model.Tx` and its counterpart on PostgreSQL have in common."""

    def commit(self) -> None: ...
    def rollback(self) -> None: ...
    def lock(self, job_id: UUID) -> Job: ...
    def submit(self, new: Sequence[NewJob]) -> list[tuple[UUID, bool, bool]]: ...
    def apply(self, job_id: UUID, event: Event, actor: str, rng: Random) -> tuple[Job, Decision]: ...
    def heartbeat(self, job_id: UUID, fence: int, lease_s: float) -> Beat: ...
    def complete(self, job_id: UUID, fence: int, outputs: dict[str, Any], actor: str, rng: Random) -> None: ...
    def write_manifest(self, job_id: UUID, fence: int, outputs: dict[str, Any]) -> None: ...
    def commit_checkpoint(self, job_id: UUID, fence: int, step: int) -> None: ...
    def expired(self, limit: int) -> list[UUID]: ...
    def held_by(self, owner: str) -> list[Job]: ...
    def unpublished(self, limit: int) -> list[Message]: ...
    def mark_published(self, ids: Sequence[int]) -> None: ...
    def due_retries(self, limit: int) -> list[UUID]: ...
    def release_lapsed(self) -> int: ...
    def distrust(self, nodes: Collection[str]) -> None: ...
    def next_queued(self, woken: UUID) -> UUID | None: ...
    def to_dispatch(self, again_s: float, limit: int) -> list[tuple[UUID, str]]: ...
    def mark_dispatched(self, ids: Sequence[UUID]) -> None: ...
    def forget_dispatched(self, kinds: Sequence[str], sent_s: float) -> int: ...
    def waiting_gangs(self, limit: int) -> list[Waiting]: ...
    def lock_placement(self) -> bool: ...
    def live_nodes(self, timeout_s: float) -> list[LiveNode]: ...
    def reserve(self, job_id: UUID, epoch: int, shares: Mapping[str, int]) -> None: ...
    def open_pipelines(self) -> list[UUID]: ...
    def children(self, parent_id: UUID) -> list[Child]: ...
    def reserved_for(self, node: str) -> list[tuple[UUID, int]]: ...


def id_of(key: str) -> UUID:
    """An id that follows from an idempotency key, so that runs can be repeated."""
    return UUID(bytes=hashlib.blake2b(key.encode(), digest_size=16).digest())


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one transaction; none of them waits."""

    tx: Transacted
    rng: Random

    async def apply(self, job_id: UUID, event: Event) -> tuple[Job, Decision]:
        return self.tx.apply(job_id, event, "scheduler", self.rng)

    async def unpublished(self, limit: int) -> list[Message]:
        return self.tx.unpublished(limit)

    async def mark_published(self, ids: Sequence[int]) -> None:
        self.tx.mark_published(ids)

    async def expired(self, limit: int) -> list[UUID]:
        return sorted(self.tx.expired(limit))

    async def release_lapsed(self) -> int:
        return self.tx.release_lapsed()

    async def distrust(self, nodes: Collection[str]) -> None:
        self.tx.distrust(nodes)

    async def due_retries(self, limit: int) -> list[UUID]:
        return sorted(self.tx.due_retries(limit))

    async def waiting_gangs(self, limit: int) -> list[Waiting]:
        return self.tx.waiting_gangs(limit)

    async def lock_placement(self) -> bool:
        return self.tx.lock_placement()

    async def live_nodes(self) -> list[LiveNode]:
        return self.tx.live_nodes(NODE_TIMEOUT_S)

    async def reserve(self, job_id: UUID, epoch: int, shares: Mapping[str, int]) -> None:
        self.tx.reserve(job_id, epoch, shares)

    async def lock(self, job_id: UUID) -> Job | None:
        return self.tx.lock(job_id)

    async def children(self, parent_id: UUID) -> list[Child]:
        return self.tx.children(parent_id)

    async def create(self, parent: Job, spec: PipelineSpec, step: CreateStep) -> None:
        new = step_job(parent, spec, step)
        self.tx.submit([replace(new, id=id_of(new.idem_key))])

    async def write_manifest(self, job_id: UUID, fence: int, outputs: dict[str, Any]) -> None:
        self.tx.write_manifest(job_id, fence, outputs)


class Taken:
    """A stream that takes everything, and remembers its message ids."""

    def __init__(self) -> None:
        self.kept: list[str] = []

    async def publish(self, messages: Sequence[Message]) -> list[int]:
        self.kept += [message.msg_id for message in messages]
        return [message.id for message in messages]


def finish(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits for something")
