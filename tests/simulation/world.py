"""One simulated installation: processes that take turns at every `await`, servers that fail, a clock that is stepped.

Everything follows from the seed: whose turn it is, how long things take, what is lost, who is killed, frozen or
cut off from the store. The processes are in `actors`; what must hold is in `invariants`.
"""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable, Coroutine, Generator
from dataclasses import dataclass
from datetime import timedelta
from random import Random
from typing import Any, TypeVar
from uuid import UUID

from tests.simulation.invariants import Violation, check, check_outbox, check_slots, check_steps
from tests.simulation.model import EPOCH, Blocked, Store, Tx

T = TypeVar("T")
LEASE_S = 6.0
LOCK_TIMEOUT_S = 10.0
STEPS = 200
DRAIN_STEPS = 6000


class StoreAway(Exception):
    """The statement or its answer was lost, the server was restarted, or this transaction was the victim of a deadlock:
    whoever asked does not know whether it took effect.
    """


@types.coroutine
def turn(wanted: object = None) -> Generator[object, None, None]:
    """Let others come first: None for a moment, a float until then, a transaction until it has ended."""
    yield wanted


@dataclass(frozen=True, slots=True)
class Weather:
    """How bad it is in this run: probabilities a turn, unless said otherwise."""

    crash: float
    freeze: float
    away: float
    lose: float
    """Of a message to a worker or a wake."""
    double: float
    refuse: float
    """Of a publication, by the stream."""
    clock_steps: float
    flush: float
    zombie: float
    """Of a worker, to be stopped between the end of its work and its word about it, for longer than its lease."""

    @classmethod
    def drawn(cls, rng: Random) -> Weather:
        """Each fault in about half of the runs, so that runs differ in kind and not only in degree."""

        def some(most: float) -> float:
            return rng.random() * most if rng.random() < 0.5 else 0.0

        return cls(
            some(0.04), some(0.06), some(0.03), some(0.5), some(0.5), some(0.5), some(0.02), some(0.02), some(0.3)
        )


CALM = Weather(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class Process:
    """A process that takes turns; when it is killed it starts anew after a while."""

    def __init__(self, name: str, main: Callable[[Process], Coroutine[Any, Any, None]]) -> None:
        self.name = name
        self.main = main
        self.running: Coroutine[Any, Any, None] = main(self)
        self.wakes = 0.0
        self.asks = False
        """Whether it waits for an answer, which may be lost; not merely for time to pass."""
        self.blocked: Tx | None = None
        self.since = 0.0
        self.starts = 1

    def waits_for(self, owners: dict[int, Process]) -> Process | None:
        """Who holds the lock that this process waits for."""
        return owners.get(id(self.blocked)) if self.blocked else None


class World:
    """See the module."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.weather = Weather.drawn(self.rng)
        self.store = Store()
        self.time = 0.0
        self.offset = self.furthest = 0.0
        self.stepped = False
        self.processes: list[Process] = []
        self.owners: dict[int, Process] = {}
        self.trace: list[str] = []
        self.stream: set[str] = set()
        self.queue: list[UUID] = []
        self.marked = False
        """Whether Redis has the key that tells that it has lost nothing."""
        self.announced: list[tuple[UUID, str]] = []
        self.files: set[tuple[UUID, int]] = set()
        self.ledger: dict[str, tuple[UUID, str]] = {}
        self.names: dict[UUID, str] = {}

    # What processes use.

    def name(self, job_id: UUID) -> str:
        """A short name for the trace."""
        return self.names.setdefault(job_id, f"j{len(self.names)}")

    def say(self, who: str, what: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.time:.3f} {who} {what}")

    def chance(self, probability: float) -> bool:
        """Whether something happens; nothing is drawn where it cannot."""
        return probability > 0.0 and self.rng.random() < probability

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await turn(self.time + seconds)

    async def call(self, me: Process, what: str, work: Callable[..., T], *arguments: Any) -> T:
        """A statement: others may come first, and a lock may have to be waited for."""
        await turn()
        self.say(me.name, what)
        while True:
            try:
                return work(*arguments)
            except Blocked as blocked:
                self.say(me.name, f"waits to {what}")
                await turn(blocked.holder)

    def transaction(self, me: Process) -> Open:
        """A transaction, committed at the end of the block."""
        return Open(self, me)

    def committed(self, me: Process, tx: Tx) -> None:
        """Check what has just become visible."""
        touched = tx.touched()
        if not touched:
            return
        for job_id in touched:
            row = self.store.jobs[job_id]
            self.say(me.name, f"commits {self.name(job_id)} {row.event} -> {row.state} fence {row.fence}")
        check(self.store, touched)
        check_slots(self.store)

    def works(self, me: Process, job_id: UUID, fence: int) -> None:
        """User code runs under this fence. I17: nobody else's does, unless the store's clock was stepped."""
        row = self.store.jobs[job_id]
        self.say(me.name, f"works on {self.name(job_id)} fence {fence}")
        if not self.stepped and (row.fence != fence or not row.state.is_held):
            raise Violation(f"I17: {me.name} works with fence {fence}; the job is {row.state} with {row.fence}")

    # What happens.

    def add(self, name: str, main: Callable[[Process], Coroutine[Any, Any, None]]) -> None:
        """Start a process."""
        self.processes.append(Process(name, main))

    def run(self) -> None:
        """All turns, then calm, until everything has ended or it takes too long. Raises Violation."""
        for _ in range(STEPS):
            self.step()
        self.weather = CALM
        # A clock that was set back makes jobs wait until it shows again what it showed: nothing is owed before that.
        self.offset = max(self.offset, self.furthest)
        for number in range(DRAIN_STEPS):
            self.step()
            if number % 16 == 0 and self.is_drained():
                break
        self.end()

    def step(self) -> None:
        """One turn of one process, or a fault."""
        rng, weather = self.rng, self.weather
        self.time += rng.random() * 0.2
        process = self._next()
        self.store.now = EPOCH + timedelta(seconds=self.time + self.offset)
        if weather is not CALM:
            if self.chance(weather.crash):
                self.kill(process)
                return
            if self.chance(weather.freeze):
                process.wakes = self.time + rng.uniform(0.3, 3.0) * LEASE_S
                self.say(process.name, "is frozen")
                return
            if self.chance(weather.clock_steps):
                self.stepped = True
                self.offset += rng.choice((-3600.0, -10.0, 10.0, 3600.0))
                self.furthest = max(self.furthest, self.offset)
                self.say("clock", f"is stepped to {self.offset:+.0f}")
            if self.chance(weather.flush):
                self.queue.clear()
                self.marked = False
                self.say("redis", "loses its data")
        self._turn(process, StoreAway("away") if process.asks and self.chance(weather.away) else None)

    def _next(self) -> Process:
        now = self.time
        ready = []
        for process in self.processes:
            if process.wakes > now:
                continue
            if process.blocked is not None:
                if id(process.blocked) in self.owners:
                    if now - process.since < LOCK_TIMEOUT_S:
                        continue
                else:
                    process.blocked = None
            ready.append(process)
        if ready:
            return self.rng.choice(ready)
        # Nobody can go on: time passes until somebody wakes, or a lock is not waited for any longer.
        soonest = min(p.wakes if p.wakes > now else p.since + LOCK_TIMEOUT_S for p in self.processes)
        self.time = soonest + 0.001
        return self._next()

    def _turn(self, process: Process, trouble: Exception | None) -> None:
        if process.blocked is not None:
            trouble = StoreAway("a lock was not had in time")
            process.blocked = None
        try:
            wanted = process.running.throw(trouble) if trouble else process.running.send(None)
        except StopIteration:
            wanted = self.time + 1e9
        process.asks = not isinstance(wanted, float)
        if wanted is None:
            return
        if isinstance(wanted, Tx):
            process.blocked, process.since = wanted, self.time
            self._break_deadlock(process)
        else:
            assert isinstance(wanted, float)
            process.wakes = wanted

    def _break_deadlock(self, process: Process) -> None:
        seen, other = {process.name}, process.waits_for(self.owners)
        while other is not None and other.name not in seen:
            seen.add(other.name)
            other = other.waits_for(self.owners)
        if other is process:
            self.say(process.name, "is the victim of a deadlock")
            process.blocked = None
            self._turn(process, StoreAway("deadlock"))

    def kill(self, process: Process) -> None:
        """kill -9: its transaction is rolled back, what it held in memory is gone."""
        self.say(process.name, "is killed")
        process.running.close()
        process.blocked, process.asks = None, False
        process.starts += 1
        process.wakes = self.time + self.rng.random() * 4.0
        process.running = process.main(process)

    # The end.

    def is_drained(self) -> bool:
        """Whether every job has ended and every event is published."""
        ended = all(row.state.is_terminal for row in self.store.jobs.values())
        return ended and all(kept.published for kept in self.store.outbox.values())

    def end(self) -> None:
        """What must hold when calm has returned. Raises Violation."""
        for process in self.processes:
            process.running.close()
        if not self.is_drained():
            waiting = [f"{self.name(row.id)} {row.kind} {row.state}" for row in self.store.jobs.values()]
            raise Violation(f"I15: after {DRAIN_STEPS} calm turns: {', '.join(waiting)}")
        check(self.store)
        check_slots(self.store)
        check_outbox(self.store)
        check_steps(self.store)
        messages = {kept.message.msg_id for kept in self.store.outbox.values()}
        if self.stream != messages:
            raise Violation(f"I11: {len(messages)} events, {len(self.stream)} in the stream")
        if self.store.reservations or self.store.locks:
            raise Violation("I16: slots or locks are left")
        for key, (job_id, body_hash) in self.ledger.items():
            row = self.store.jobs.get(job_id)
            if row is None or row.idem_key != key or row.body_hash != body_hash:
                raise Violation(f"I1: {key} was accepted and is lost")
        for job_id, (fence, _) in self.store.manifests.items():
            if self.store.jobs[job_id].kind != "pipeline" and (job_id, fence) not in self.files:
                raise Violation("I12: a manifest without its files")

    def digest(self) -> bytes:
        """Of the whole trace."""
        return hashlib.blake2b("\n".join(self.trace).encode(), digest_size=16).digest()


class Open:
    """An open transaction of a process."""

    def __init__(self, world: World, me: Process) -> None:
        self._world = world
        self._me = me
        self._tx = world.store.begin()

    async def __aenter__(self) -> Tx:
        self._world.owners[id(self._tx)] = self._me
        return self._tx

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                await turn()
                self._tx.commit()
                self._world.committed(self._me, self._tx)
        finally:
            self._tx.rollback()
            del self._world.owners[id(self._tx)]
        if kind is None:
            # Committed, and whoever did it may still not live to know.
            await turn()
