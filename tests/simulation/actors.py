"""The processes of a simulated installation. What they decide is the product's code; here is what they ask whom."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any
from uuid import UUID

from sextant_scheduler.domain import advancing, rounds
from sextant_scheduler.domain.pipeline import Child, CreateStep
from sextant_scheduler.domain.placement import Node as LiveNode
from sextant_scheduler.domain.placement import Waiting
from sextant_scheduler.domain.rounds import Message
from sextant_scheduler.handlers.control import ROUSE_S
from sextant_scheduler.handlers.pipelines import step_job
from sextant_scheduler.handlers.submission import body_hash
from sextant_shared.contracts.specs import CELERY_KINDS, SPEC, PipelineSpec
from sextant_shared.errors import StaleFence
from sextant_shared.execution.hold import Hold, Wish, conclude
from sextant_shared.execution.launching import Ending
from sextant_shared.execution.workbench import Failed, Paused, Result
from sextant_shared.lifecycle import machine as m
from sextant_shared.lifecycle.jobs import NewJob
from sextant_shared.lifecycle.machine import Decision, Event, Job
from sextant_shared.lifecycle.states import State
from tests.simulation.invariants import Violation
from tests.simulation.model import Node, Tx
from tests.simulation.ports import id_of
from tests.simulation.world import CALM, LEASE_S, Process, StoreAway, World, turn

RESERVATION_S = 5.0
AGAIN_S = 8.0
ALIVE_S = 1.5
NODE_TIMEOUT_S = 4.0
JOBS = 6


class Ports:
    """The rounds' ports on one transaction; at each call others may come first."""

    def __init__(self, world: World, me: Process, tx: Tx) -> None:
        self.world = world
        self.me = me
        self.tx = tx

    async def _ask(self, what: str, work: Callable[..., Any], *arguments: Any) -> Any:
        return await self.world.call(self.me, what, work, *arguments)

    async def apply(self, job_id: UUID, event: Event) -> tuple[Job, Decision]:
        return await apply(self.world, self.me, self.tx, job_id, event)

    async def unpublished(self, limit: int) -> list[Message]:
        messages: list[Message] = await self._ask("reads the outbox", self.tx.unpublished, limit)
        return messages

    async def mark_published(self, ids: Sequence[int]) -> None:
        await self._ask(f"marks {list(ids)}", self.tx.mark_published, ids)

    async def expired(self, limit: int) -> list[UUID]:
        found: list[UUID] = await self._ask("looks for expired leases", self.tx.expired, limit)
        return found

    async def release_lapsed(self) -> int:
        return int(await self._ask("releases members", self.tx.release_lapsed))

    async def distrust(self, nodes: Collection[str]) -> None:
        if nodes:
            await self._ask(f"distrusts {list(nodes)}", self.tx.distrust, nodes)

    async def due_retries(self, limit: int) -> list[UUID]:
        found: list[UUID] = await self._ask("looks for retries", self.tx.due_retries, limit)
        return found

    async def waiting_gangs(self, limit: int) -> list[Waiting]:
        found: list[Waiting] = await self._ask("looks for gangs", self.tx.waiting_gangs, limit)
        return found

    async def lock_placement(self) -> bool:
        return bool(await self._ask("locks the placement", self.tx.lock_placement))

    async def live_nodes(self) -> list[LiveNode]:
        found: list[LiveNode] = await self._ask("counts slots", self.tx.live_nodes, NODE_TIMEOUT_S)
        return found

    async def reserve(self, job_id: UUID, epoch: int, shares: Mapping[str, int]) -> None:
        await self._ask(f"reserves {shares}", self.tx.reserve, job_id, epoch, shares)

    async def lock(self, job_id: UUID) -> Job | None:
        job: Job = await self._ask(f"locks {self.world.name(job_id)}", self.tx.lock, job_id)
        return job

    async def children(self, parent_id: UUID) -> list[Child]:
        found: list[Child] = await self._ask("reads the steps", self.tx.children, parent_id)
        return found

    async def create(self, parent: Job, spec: PipelineSpec, step: CreateStep) -> None:
        new = step_job(parent, spec, step)
        await self._ask(f"creates step {step.step}", self.tx.submit, [replace(new, id=id_of(new.idem_key))])

    async def write_manifest(self, job_id: UUID, fence: int, outputs: dict[str, Any]) -> None:
        await self._ask("writes the manifest", self.tx.write_manifest, job_id, fence, outputs)


class Outside:
    """The stream and the queues, which refuse, lose and double."""

    def __init__(self, world: World, me: Process) -> None:
        self.world = world
        self.me = me

    async def publish(self, messages: Sequence[Message]) -> list[int]:
        await turn()
        world, acknowledged = self.world, []
        for message in messages:
            refused = world.chance(world.weather.refuse)
            if not refused or world.rng.random() < 0.5:  # or the acknowledgement is lost
                world.stream.add(message.msg_id)
            if not refused:
                acknowledged.append(message.id)
        if messages:
            world.say(self.me.name, f"publishes {len(messages)}, of which {len(acknowledged)} are acknowledged")
        await turn()
        return acknowledged

    async def wake(self, due: Sequence[tuple[UUID, str]]) -> list[UUID]:
        await turn()
        world = self.world
        for job_id, _ in due:
            world.say(self.me.name, f"sends {world.name(job_id)}")
            if not world.chance(world.weather.lose):
                world.queue.append(job_id)
        await turn()
        return [job_id for job_id, _ in due]

    async def to_dispatch(self, limit: int) -> list[tuple[UUID, str]]:
        tx = self.world.store.begin()
        return await self.world.call(self.me, "looks for queued jobs", tx.to_dispatch, AGAIN_S, limit)


async def apply(world: World, me: Process, tx: Tx, job_id: UUID, event: Event) -> tuple[Job, Decision]:
    """`jobs.apply`."""
    what = f"tells {world.name(job_id)} {type(event).__name__}"
    return await world.call(me, what, tx.apply, job_id, event, me.name, world.rng)


async def tell(world: World, me: Process, job_id: UUID, event: Event) -> Decision:
    """One event in a transaction of its own."""
    async with world.transaction(me) as tx:
        return (await apply(world, me, tx, job_id, event))[1]


async def control(world: World, me: Process) -> None:
    """A copy of the control process: its rounds in the order of `consumer.ControlLoop`."""
    number = 0
    while True:
        number += 1
        try:
            await _round(world, me, sweep=number % 3 == 0)
        except StoreAway:
            world.say(me.name, "loses the store")
        await world.sleep(world.rng.random())


async def _round(world: World, me: Process, *, sweep: bool) -> None:
    outside = Outside(world, me)
    async with world.transaction(me) as tx:
        await rounds.repair(Ports(world, me, tx))
    if not world.marked:
        async with world.transaction(me) as tx:
            await world.call(me, "lets all be sent again", tx.forget_dispatched, CELERY_KINDS, 0.0)
        world.marked = True
    if not world.queue:
        async with world.transaction(me) as tx:
            await world.call(me, "lets what waits be sent again", tx.forget_dispatched, CELERY_KINDS, ROUSE_S)
    announced, world.announced = world.announced, []
    sent = await rounds.dispatch(outside, outside, announced)
    async with world.transaction(me) as tx:
        await rounds.place_gangs(Ports(world, me, tx), RESERVATION_S)
    async with world.transaction(me) as tx:
        touched = await rounds.relay(Ports(world, me, tx), outside)
    if sent:
        async with world.transaction(me) as tx:
            await world.call(me, "marks what was sent", tx.mark_dispatched, sent)
    if sweep:
        touched = set(world.store.begin().open_pipelines())
    for job_id in sorted(touched):
        async with world.transaction(me) as tx:
            await advancing.advance(Ports(world, me, tx), job_id)


async def worker(world: World, me: Process) -> None:
    """A worker of one queue: a message at a time, acknowledged when its attempt is over."""
    await _recover(world, me)
    while True:
        if not world.queue:
            await world.sleep(world.rng.random() * 0.5)
            continue
        index = world.rng.randrange(len(world.queue))
        job_id = world.queue[index]
        if not world.chance(world.weather.double):
            del world.queue[index]
        await attempt(world, me, job_id)


async def _recover(world: World, me: Process) -> None:
    """What a worker does first: `Supervisor.recover`."""
    while True:
        try:
            async with world.transaction(me) as tx:
                for job in await world.call(me, "looks for what it held", tx.held_by, me.name):
                    if job.state is not State.RESERVED:
                        await apply(world, me, tx, job.id, m.Died(job.fence, "the worker process died"))
        except StoreAway:
            await world.sleep(0.5)
        else:
            return


async def agent(world: World, me: Process, *, slots: int) -> None:
    """A trainer node: tells that it is alive, and starts the gangs that were placed on it."""
    await _recover(world, me)
    told = -ALIVE_S
    while True:
        if world.time - told >= ALIVE_S:
            told = world.time
            if not world.chance(world.weather.lose):
                world.store.nodes[me.name] = Node(slots, "READY", world.store.now)
        try:
            tx = world.store.begin()
            reserved = await world.call(me, "looks for its gangs", tx.reserved_for, me.name)
        except StoreAway:
            reserved = []
        for job_id, epoch in reserved:
            await attempt(world, me, job_id, epoch)
        await world.sleep(world.rng.random() * 2.0)


async def attempt(world: World, me: Process, woken: UUID, epoch: int | None = None) -> None:
    """From claim to commit, as `execution.supervisor`; what cannot be written is left to the reaper."""
    job_id = woken
    try:
        sent = world.time
        async with world.transaction(me) as tx:
            if epoch is None:
                first = await world.call(me, "looks for the next job", tx.next_queued, woken)
                if first is None:
                    return
                job_id = first
            job, decision = await apply(world, me, tx, job_id, m.Claim(me.name, LEASE_S, epoch))
        if isinstance(decision, m.Transition):
            if epoch is not None and job.epoch != epoch:
                raise Violation(f"I16: {me.name} starts epoch {epoch} of {world.name(job_id)}, which was called off")
            await _claimed(world, me, job, job.fence + 1, Hold.since(sent, LEASE_S))
    except (StaleFence, StoreAway) as error:
        world.say(me.name, f"gives up {world.name(job_id)}: {type(error).__name__}")


async def _claimed(world: World, me: Process, job: Job, fence: int, hold: Hold) -> None:
    final, wish = await _work(world, me, job, fence, hold)
    ending = Ending((0,)) if final is not None else Ending((-9,), 0)
    event = conclude(fence, final, ending, wish)
    if world.chance(world.weather.zombie):
        world.say(me.name, "is stopped before it can tell")
        await world.sleep(world.rng.uniform(1.0, 3.0) * LEASE_S)
    if isinstance(event, m.Complete):
        world.files.add((job.id, fence))
        async with world.transaction(me) as tx:
            what = f"completes {world.name(job.id)} fence {fence}"
            await world.call(me, what, tx.complete, job.id, fence, {}, me.name, world.rng)
        return
    decision = await tell(world, me, job.id, event)
    if isinstance(decision, m.Refused):
        raise StaleFence(decision.reason)


async def _work(
    world: World, me: Process, job: Job, fence: int, hold: Hold
) -> tuple[Result | Paused | Failed | None, Wish]:
    left, wish = world.rng.randrange(6), Wish.GO_ON
    while True:
        if hold.is_due(world.time) and not hold.is_lost(world.time):
            wish = await _beat(world, me, job.id, fence, hold)
        if wish is Wish.LOST or hold.is_lost(world.time):
            return None, Wish.LOST
        if wish is not Wish.GO_ON:
            return (Paused() if job.kind == "train" else None), wish
        world.works(me, job.id, fence)
        if job.kind == "train" and world.chance(0.3):
            async with world.transaction(me) as tx:
                await world.call(me, "commits a checkpoint", tx.commit_checkpoint, job.id, fence, left)
        left -= 1
        if left < 0:
            return _outcome(world.rng), wish
        await world.sleep(world.rng.random() * 1.5)


def _outcome(rng: Random) -> Result | Failed | None:
    draw = rng.random()
    if draw < 0.7:
        return Result(outputs={})
    if draw < 0.9:
        return Failed(message="x", retriable=draw < 0.85)
    return None


async def _beat(world: World, me: Process, job_id: UUID, fence: int, hold: Hold) -> Wish:
    sent = world.time
    hold.sending(sent)
    try:
        async with world.transaction(me) as tx:
            what = f"beats {world.name(job_id)} fence {fence}"
            beat = await world.call(me, what, tx.heartbeat, job_id, fence, LEASE_S)
    except StaleFence:
        return Wish.LOST
    except StoreAway:
        return Wish.GO_ON
    hold.extended(sent)
    return Wish.CANCEL if beat.cancel else Wish.PAUSE if beat.pause else Wish.GO_ON


async def client(world: World, me: Process) -> None:
    """Submits, again under the same key while it gets no answer, and changes its mind about what it submitted."""
    number = 0
    while True:
        try:
            if world.weather is CALM:
                await _resume_all(world, me)
            elif number < JOBS and world.rng.random() < 0.7:
                await _submit(world, me, f"{me.name} {number}", number)
                number += 1
            elif world.ledger:
                job_id, _ = world.rng.choice(list(world.ledger.values()))
                events = (m.Cancel(), m.Pause(), m.Resume(), m.Resume(), m.Requeue())
                await tell(world, me, job_id, world.rng.choice(events))
        except StoreAway:
            world.say(me.name, "gets no answer")
        await world.sleep(world.rng.random() * 4.0)


async def _resume_all(world: World, me: Process) -> None:
    for job_id, row in list(world.store.jobs.items()):
        if row.state is State.PAUSED and row.parent_id is None:
            await tell(world, me, job_id, m.Resume())


async def _submit(world: World, me: Process, key: str, number: int) -> None:
    new = _new_job(world, key, ("probe", "train", "pipeline", "probe")[number % 4])
    async with world.transaction(me) as tx:
        ((job_id, _, _),) = await world.call(me, f"submits {new.kind} {key}", tx.submit, [new])
    world.ledger[key] = (job_id, new.body_hash)
    if new.kind == "probe" and not world.chance(world.weather.lose):
        world.announced.append((job_id, new.kind))


SPECS: dict[str, Any] = {
    "probe": {"kind": "probe"},
    "train": {"kind": "train", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}, "resources": {"ranks": 2}},
    "pipeline": {
        "kind": "pipeline",
        "steps": {"a": {"kind": "probe"}, "b": {"kind": "probe"}},
        "after": {"b": ["a"]},
    },
}
PLAIN = {kind: SPEC.validate_python(spec).model_dump(mode="json", by_alias=True) for kind, spec in SPECS.items()}
HASHES = {kind: body_hash(plain) for kind, plain in PLAIN.items()}


def _new_job(world: World, key: str, kind: str) -> NewJob:
    job_id = id_of(key)
    return NewJob(
        id=job_id,
        tenant="default",
        kind=kind,
        name=kind,
        spec=PLAIN[kind],
        body_hash=HASHES[kind],
        idem_key=key,
        root_id=job_id,
        actor="client",
        inputs={},
        priority=world.rng.randrange(2),
        max_attempts=1 + world.rng.randrange(3),
        backoff_s=2.0,
    )


def build(seed: int) -> World:
    """An installation of a size that the seed decides."""
    world = World(seed)
    parts: list[tuple[str, Callable[..., Coroutine[Any, Any, None]]]] = [
        *((f"control{i}", control) for i in range(world.rng.randint(1, 2))),
        *((f"worker{i}", worker) for i in range(world.rng.randint(1, 2))),
        *((f"node{i}", partial(agent, slots=2 + i)) for i in range(world.rng.randint(1, 2))),
        *((f"client{i}", client) for i in range(world.rng.randint(1, 2))),
    ]
    for name, main in parts:
        world.add(name, partial(main, world))
    return world
