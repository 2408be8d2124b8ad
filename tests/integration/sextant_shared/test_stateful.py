"""The rules of a job's life under random sequences, on PostgreSQL beside the model that the simulation runs on.

The same on both, all rows compared after each step: what the simulation finds on the model holds for the store, and
what the store does the model knows.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule, run_state_machine_as_test
from tests.simulation.ports import Ports, finish
from tests.simulation.postgres import RealStore
from tests.simulation.rules import LEASE_S, PICK, LifecycleRules, Work, one_after_the_other, outcome, plain

from sextant_scheduler.domain import rounds
from sextant_shared.lifecycle import machine as m

CHECKS = [HealthCheck.too_slow, HealthCheck.filter_too_much]


class BesidePostgres(LifecycleRules):
    """Also lets two transactions meet: one may write between the other's look and its write, were it not for locks."""

    def work(self, pick: int, choice: int) -> Work:
        """Something about a job that another transaction may also be about."""
        job = self.job(pick)
        kind = choice % 6
        if kind == 0 and job.kind != "pipeline":
            return lambda tx, rng: tx.complete(job.id, job.fence, {}, "t", rng)
        if kind == 1:
            return lambda tx, rng: tx.apply(job.id, m.Cancel("raced"), "t", rng)
        if kind == 2:
            return lambda tx, rng: tx.apply(job.id, m.Claim(job.lease_owner or "n1", LEASE_S, job.epoch), "t", rng)
        if kind == 3:
            return lambda tx, rng: tx.heartbeat(job.id, job.fence, LEASE_S)
        if kind == 4:
            return lambda tx, rng: finish(rounds.repair(Ports(tx, rng)))
        job_id, event = self.event_for(pick, choice // 6, 0)
        return lambda tx, rng: tx.apply(job_id, event, "t", rng)

    @rule(pick=PICK, first=PICK, second=PICK, seed=PICK)
    def meet(self, pick: int, first: int, second: int, seed: int) -> None:
        assert isinstance(self.real, RealStore)
        one, two = self.work(pick, first), self.work(pick, second)
        modelled = one_after_the_other(self.store, one, two, seed)
        told = self.real.race(
            lambda tx: plain(outcome(tx, one, seed)),
            lambda tx: plain(outcome(tx, two, seed)),
        )
        assert told == modelled, f"the model says {modelled}, the store {told}"

    @rule(key=PICK)
    def submit_twice_at_once(self, key: int) -> None:
        assert isinstance(self.real, RealStore)
        one, two = self.new("probe", f"k{key % 5}"), self.new("probe", f"k{key % 5}")

        def submit(new: Any) -> Work:
            return lambda tx, rng: tx.submit([new])

        modelled = one_after_the_other(self.store, submit(one), submit(two), 0)
        told = self.real.race(lambda tx: submit(one)(tx, Random(0)), lambda tx: submit(two)(tx, Random(0)))
        assert told == modelled
        self.learn()


@pytest.fixture
def real(database_url: str) -> Iterator[RealStore]:
    """A database whose clock the test sets."""
    store = RealStore(database_url)
    yield store
    store.close()


def run(real: RealStore, examples: int, *, derandomize: bool) -> None:
    """Sequences of 30 steps."""
    limits = settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        derandomize=derandomize,
        suppress_health_check=CHECKS,
        database=None,
    )
    machine = type("Machine", (BesidePostgres,), {"real": real})
    run_state_machine_as_test(machine, settings=limits)


@pytest.mark.timeout(300)
def test_the_store_and_its_model_do_the_same(real: RealStore) -> None:
    run(real, 50, derandomize=True)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_store_and_its_model_do_the_same_in_sequences_never_tried_before(real: RealStore) -> None:
    run(real, 300, derandomize=False)
