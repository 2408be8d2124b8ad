"""Random sequences of everything that may happen to jobs, on the model, or on it and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from random import Random
from typing import Any, Protocol
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sextant_scheduler.domain import advancing, rounds
from sextant_scheduler.handlers.submission import body_hash
from sextant_shared.contracts.specs import CELERY_KINDS, SPEC
from sextant_shared.errors import StaleFence
from sextant_shared.lifecycle import machine as m
from sextant_shared.lifecycle.jobs import NewJob
from sextant_shared.lifecycle.states import State
from tests.simulation.invariants import check, check_outbox, check_slots, check_steps
from tests.simulation.model import Blocked, Node, Store, WallError
from tests.simulation.ports import Ports, Taken, Transacted, finish

LEASE_S = 30.0
AGAIN_S = 30.0
Work = Callable[[Transacted, Random], Any]
PIPELINE = {"a": {"kind": "probe"}, "b": {"kind": "probe"}, "c": {"kind": "probe"}}
# Sampled, since integers would be drawn small: the same job and the same event most of the time.
PICK = st.sampled_from(range(5 * 7 * 11 * 13))
BACK = st.sampled_from([0, 0, 0, 0, 1])


class Real(Protocol):
    """The counterpart of the model: a store that is asked the same, and shows all its rows."""

    def begin(self) -> Transacted: ...
    def set_time(self, store: Store) -> None: ...
    def record_node(self, name: str, slots: int, *, draining: bool) -> None: ...
    def differences(self, store: Store) -> list[str]: ...
    def clear(self) -> None: ...


def outcome(tx: Transacted, work: Work, seed: int) -> Any:
    """What `work` gives in this transaction, a refusal by its kind; after a refusal the transaction is rolled back."""
    try:
        return work(tx, Random(seed))
    except (StaleFence, WallError) as error:
        tx.rollback()
        return type(error).__name__


def plain(value: Any) -> Any:
    """Comparable: of a decision that comes with its job, the decision; of messages, their message ids."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], m.Transition | m.Unchanged | m.Refused):
        return value[1]
    return value


class LifecycleRules(RuleBasedStateMachine):
    """`real` is None for the model alone."""

    real: Real | None = None

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.ids: list[UUID] = []
        self.made = 0

    @initialize()
    def begin(self) -> None:
        if self.real:
            self.real.clear()
            self.real.set_time(self.store)
        for name in ("n1", "n2"):
            self.hear(name, 4, draining=False)
        for kind in ("probe", "train", "pipeline"):
            self.both(partial(_submit, new=self.new(kind, f"first {kind}", attempts=2)))
        self.learn()

    # The means.

    def both(self, work: Work, seed: int = 0, *, commit: bool = True) -> Any:
        """Do `work` in a transaction of its own, on the model and on the real store; the answer that both give."""
        tx = self.store.begin()
        modelled = plain(outcome(tx, work, seed))
        tx.commit() if commit and modelled != "WallError" else tx.rollback()
        if self.real:
            tx_ = self.real.begin()
            told = plain(outcome(tx_, work, seed))
            tx_.commit() if commit else tx_.rollback()
            assert told == modelled, f"the model says {modelled}, the store {told}"
        assert modelled != "WallError", "the rules made a change that the database refuses"
        return modelled

    def job(self, pick: int) -> Any:
        return self.store.jobs[self.ids[pick % len(self.ids)]]

    def tell(self, job_id: UUID, event: m.Event, seed: int = 0) -> Any:
        return self.both(lambda tx, rng: tx.apply(job_id, event, "t", rng), seed)

    def new(self, kind: str, key: str, *, ranks: int = 1, attempts: int = 2, body: int = 0) -> NewJob:
        more: dict[str, Any] = {}
        if kind == "train":
            more = {"data": {"dataset": "d"}, "model": {"zoo": "mlp"}, "resources": {"ranks": ranks}}
        if kind == "pipeline":
            more = {"steps": PIPELINE, "after": {"c": ["a", "b"]}, "on_failure": ("fail", "skip")[ranks % 2]}
        spec = SPEC.validate_python({"kind": kind, "priority": body, **more})
        plain_spec = spec.model_dump(mode="json", by_alias=True)
        self.made += 1
        job_id = UUID(int=self.made)
        return NewJob(
            id=job_id,
            tenant="default",
            kind=kind,
            name=kind if key[0] != "l" else "late",
            spec=plain_spec,
            body_hash=body_hash(plain_spec),
            idem_key=key,
            root_id=job_id,
            actor="t",
            inputs={},
            priority=spec.priority,
            max_attempts=attempts,
            backoff_s=2.0,
        )

    def hear(self, name: str, slots: int, *, draining: bool) -> None:
        known = self.store.nodes.get(name)
        slots = known.slots if known else slots
        self.store.nodes[name] = Node(slots, "DRAINING" if draining else "READY", self.store.now)
        if self.real:
            self.real.record_node(name, slots, draining=draining)

    def learn(self) -> None:
        """Which jobs things happen to: not those that only filled the outbox."""
        self.ids = sorted(row.id for row in self.store.jobs.values() if row.name != "late")

    def event_for(self, pick: int, choice: int, back: int) -> tuple[UUID, m.Event]:
        """An event that fits the job, or nearly: `back` is how stale its fence or epoch is."""
        job = self.job(pick)
        fence, error = job.fence - back, {"message": "x"}
        by_state: dict[State, list[m.Event]] = {
            State.QUEUED: [m.Claim("n1", LEASE_S), m.Claim("n1", LEASE_S), m.Pause()],
            State.RESERVED: [m.Claim(job.lease_owner or "", LEASE_S, job.epoch - back), m.Cancel()],
            State.RUNNING: [
                m.Fail(fence, error, retriable=True),
                m.Died(fence, "killed"),
                m.Pause(),
                m.Cancel("no"),
                m.Stopped(fence),
            ],
            State.PAUSING: [m.Stopped(fence), m.Died(fence, "x"), m.Cancel(), m.Fail(fence, error, retriable=True)],
            State.CANCELLING: [m.Stopped(fence), m.Died(fence, "killed")],
            State.PAUSED: [m.Resume(), m.Resume(), m.Cancel()],
            State.RETRY_WAIT: [m.Wake(), m.Wake(), m.Pause()],
            State.QUARANTINED: [m.Requeue()],
            State.BLOCKED: [m.Pause(), m.Cancel()],
        }
        others: list[m.Event] = [
            m.Claim(job.lease_owner or "n1", LEASE_S, job.epoch - back),
            m.Fail(fence, error, retriable=False),
            m.Cancel("no"),
            m.Resume(),
            m.Requeue(),
            m.Expire(),
            m.Wake(),
            m.Died(fence, "killed"),
            m.Stopped(fence),
        ]
        events = [*by_state.get(job.state, []) * 3, *others]
        return job.id, events[choice % len(events)]

    # What may happen.

    @rule(kind=st.sampled_from(["probe", "probe", "train", "pipeline"]), key=PICK, ranks=st.integers(1, 3), body=PICK)
    def submit(self, kind: str, key: int, ranks: int, body: int) -> None:
        new = self.new(kind, f"k{key % 5}", ranks=ranks, attempts=1 + key % 3, body=body % 3)
        self.both(partial(_submit, new=new))
        self.learn()

    @rule(seconds=st.sampled_from([0.5, 3.0, 31.0, 400.0]))
    def pass_time(self, seconds: float) -> None:
        self.store.now += timedelta(seconds=seconds)
        if self.real:
            self.real.set_time(self.store)

    @rule(name=st.sampled_from(["n1", "n2"]), slots=st.integers(3, 4), draining=st.booleans())
    def hear_of_node(self, name: str, slots: int, draining: bool) -> None:
        self.hear(name, slots, draining=draining)

    @rule(pick=PICK, choice=PICK, back=BACK, seed=PICK)
    def happen(self, pick: int, choice: int, back: int, seed: int) -> None:
        self.tell(*self.event_for(pick, choice, back), seed)

    @rule(pick=PICK, choice=st.lists(PICK, min_size=2, max_size=6), seed=PICK)
    def happen_in_a_row(self, pick: int, choice: list[int], seed: int) -> None:
        for each in choice:
            self.tell(*self.event_for(pick, each, 0), seed)

    @rule(pick=PICK, choice=PICK)
    def happen_and_roll_back(self, pick: int, choice: int) -> None:
        job_id, event = self.event_for(pick, choice, 0)
        self.both(lambda tx, rng: tx.apply(job_id, event, "t", rng), commit=False)

    @rule(pick=PICK, epoch_back=BACK)
    def claim(self, pick: int, epoch_back: int) -> None:
        job = self.job(pick)
        self.tell(job.id, m.Claim(job.lease_owner or "n1", LEASE_S, job.epoch - epoch_back))

    @rule(pick=PICK)
    def claim_the_next(self, pick: int) -> None:
        woken = self.job(pick)
        first = self.both(lambda tx, rng: tx.next_queued(woken.id), commit=False)
        if first:
            self.tell(first, m.Claim("n1", LEASE_S))

    @rule(pick=PICK, back=BACK)
    def beat(self, pick: int, back: int) -> None:
        job = self.job(pick)
        self.both(lambda tx, rng: tx.heartbeat(job.id, job.fence - back, LEASE_S))

    @rule(pick=PICK, back=BACK)
    def complete(self, pick: int, back: int) -> None:
        job = self.job(pick)
        if job.kind != "pipeline":
            self.both(lambda tx, rng: tx.complete(job.id, job.fence - back, {"x": 1}, "t", rng))

    @rule(pick=PICK, step=st.integers(1, 3), back=BACK)
    def commit_checkpoint(self, pick: int, step: int, back: int) -> None:
        job = self.job(pick)
        self.both(lambda tx, rng: tx.commit_checkpoint(job.id, job.fence - back, step))

    @rule(seed=PICK)
    def repair(self, seed: int) -> None:
        self.both(lambda tx, rng: finish(rounds.repair(Ports(tx, rng))), seed)

    @rule()
    def place(self) -> None:
        self.both(lambda tx, rng: finish(rounds.place_gangs(Ports(tx, rng), 20.0)))

    @rule(marked=st.booleans())
    def dispatch(self, marked: bool) -> None:
        due = self.both(lambda tx, rng: tx.to_dispatch(AGAIN_S, 500))
        if marked and due:
            self.both(lambda tx, rng: tx.mark_dispatched([job_id for job_id, _ in due]))

    @rule()
    def recall(self) -> None:
        self.both(lambda tx, rng: tx.forget_dispatched(CELERY_KINDS, 0.0))

    @rule(seed=PICK)
    def advance(self, seed: int) -> None:
        for job_id in sorted(self.both(lambda tx, rng: sorted(tx.open_pipelines()))):
            self.both(partial(_advance, job_id=job_id), seed)
        self.learn()

    def _relay(self) -> None:
        def publish(tx: Transacted, rng: Random) -> Any:
            stream = Taken()
            touched = finish(rounds.relay(Ports(tx, rng), stream))
            return stream.kept, touched

        self.both(publish)

    @rule()
    def relay(self) -> None:
        self._relay()

    @rule(key=PICK)
    def commit_late(self, key: int) -> None:
        """An event whose transaction began first and commits last, with the relay in between."""
        early, late = self.new("probe", f"late {self.made}"), self.new("probe", f"later {self.made}")
        open_tx, real_tx = self.store.begin(), self.real.begin() if self.real else None
        for tx in (open_tx, real_tx):
            if tx:
                tx.submit([early])
        self.both(partial(_submit, new=late))
        self._relay()
        for tx in (open_tx, real_tx):
            if tx:
                tx.commit()
        self._relay()
        waiting = [kept.message.msg_id for kept in self.store.outbox.values() if not kept.published]
        assert waiting == [], "an event was passed over"
        self.learn()

    @rule(pick=PICK)
    def look(self, pick: int) -> None:
        job = self.job(pick)
        self.both(lambda tx, rng: sorted(each.id for each in tx.held_by("n1")))
        self.both(lambda tx, rng: sorted(tx.reserved_for("n1")))
        self.both(lambda tx, rng: tx.live_nodes(20.0))
        self.both(lambda tx, rng: tx.children(job.id))

    # What must hold.

    @invariant()
    def holds(self) -> None:
        check(self.store)
        check_outbox(self.store)
        check_slots(self.store)
        check_steps(self.store)

    @invariant()
    def is_the_same(self) -> None:
        if self.real:
            differences = self.real.differences(self.store)
            assert not differences, "\n".join(differences)


def _submit(tx: Transacted, rng: Random, *, new: NewJob) -> list[tuple[UUID, bool, bool]]:
    return tx.submit([new])


def _advance(tx: Transacted, rng: Random, *, job_id: UUID) -> bool:
    return finish(advancing.advance(Ports(tx, rng), job_id))


def one_after_the_other(store: Store, first: Work, second: Work, seed: int) -> tuple[Any, bool, Any]:
    """What two transactions give of which the second begins when the first has written: its answer, whether the
    second had to wait for it, and the second's.
    """
    one, two = store.begin(), store.begin()
    told = plain(outcome(one, first, seed))
    try:
        answer, waited = plain(outcome(two, second, seed)), False
        two.commit()
        one.commit()
    except Blocked:
        two.rollback()
        one.commit()
        again = store.begin()
        answer, waited = plain(outcome(again, second, seed)), True
        again.commit()
    return told, waited, answer
