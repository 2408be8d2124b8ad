"""Two transactions about one job at the same time: what they do is what they would do one after the other.

Every pair of what may happen to a job, in each state in which it matters. The second begins when the first has written
and not committed; it has to wait for it, or leave the job alone, and never act on what it saw before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from tests.simulation.ports import Ports, Transacted, finish
from tests.simulation.postgres import RealStore
from tests.simulation.rules import LEASE_S, LifecycleRules, Work, one_after_the_other, outcome, plain

from sextant_scheduler.domain import rounds
from sextant_shared.lifecycle import machine as m

Make = Callable[[Any], Work]


def _apply(event: Callable[[Any], m.Event]) -> Make:
    return lambda job: lambda tx, rng: tx.apply(job.id, event(job), "t", rng)


WORKS: dict[str, Make] = {
    "claim": _apply(lambda job: m.Claim(job.lease_owner or "n1", LEASE_S, job.epoch)),
    "complete": lambda job: lambda tx, rng: tx.complete(job.id, job.fence, {}, "t", rng),
    "fail": _apply(lambda job: m.Fail(job.fence, {"message": "x"}, retriable=True)),
    "die": _apply(lambda job: m.Died(job.fence, "killed")),
    "cancel": _apply(lambda job: m.Cancel()),
    "pause": _apply(lambda job: m.Pause()),
    "beat": lambda job: lambda tx, rng: tx.heartbeat(job.id, job.fence, LEASE_S),
    "repair": lambda job: lambda tx, rng: finish(rounds.repair(Ports(tx, rng))),
}


def _queued(rules: LifecycleRules, kind: str) -> UUID:
    new = rules.new(kind, f"{kind} {rules.made}")
    rules.both(lambda tx, rng: tx.submit([new]))
    return new.id


def _running(rules: LifecycleRules) -> UUID:
    job_id = _queued(rules, "probe")
    rules.tell(job_id, m.Claim("w", LEASE_S))
    return job_id


def _overdue(rules: LifecycleRules) -> UUID:
    job_id = _running(rules)
    rules.pass_time(LEASE_S + 1.0)
    return job_id


def _cancelling(rules: LifecycleRules) -> UUID:
    job_id = _running(rules)
    rules.tell(job_id, m.Cancel())
    return job_id


def _reserved(rules: LifecycleRules) -> UUID:
    job_id = _queued(rules, "train")
    rules.hear("n1", 4, draining=False)
    rules.place()
    return job_id


STATES: dict[str, Callable[[LifecycleRules], UUID]] = {
    "queued": lambda rules: _queued(rules, "probe"),
    "running": _running,
    "overdue": _overdue,
    "cancelling": _cancelling,
    "reserved": _reserved,
}


def _told(tx: Transacted, *, work: Work) -> Any:
    return plain(outcome(tx, work, 0))


@pytest.fixture
def rules(database_url: str) -> Iterator[LifecycleRules]:
    """The model and PostgreSQL, side by side."""
    real = RealStore(database_url)
    machine: type[LifecycleRules] = type("Beside", (LifecycleRules,), {"real": real})
    made = machine()
    made.begin()
    yield made
    real.close()


@pytest.mark.parametrize("state", STATES)
def test_two_at_once_do_what_one_after_the_other_would(rules: LifecycleRules, state: str) -> None:
    assert isinstance(rules.real, RealStore)
    for first, make_first in WORKS.items():
        for second, make_second in WORKS.items():
            job = rules.store.jobs[STATES[state](rules)]
            assert job.state == ("RUNNING" if state == "overdue" else state.upper())
            one, two = make_first(job), make_second(job)
            modelled = one_after_the_other(rules.store, one, two, 0)
            told = rules.real.race(partial(_told, work=one), partial(_told, work=two))
            assert told == modelled, f"{first}, then {second}: the model says {modelled}, the store {told}"
            rules.holds()
            # Out of the way of the next pair.
            for event in (m.Cancel(), m.Stopped(rules.store.jobs[job.id].fence)):
                rules.tell(job.id, event)
        rules.is_the_same()
