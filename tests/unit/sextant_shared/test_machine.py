"""The rules of a job's life, without a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sextant_shared.lifecycle import machine as m
from sextant_shared.lifecycle.states import LEGAL, TERMINAL, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = UUID(int=1)


def job(kind: str = "probe", state: State = State.QUEUED, **changes: object) -> m.Job:
    """A job as the store would hold it in `state`."""
    held = state in (State.RUNNING, State.PAUSING, State.CANCELLING) and kind not in ("pipeline", "tune")
    base = m.Job(
        id=ID,
        tenant="default",
        kind=kind,
        name="j",
        root_id=ID,
        parent_id=None,
        step=None,
        spec={},
        inputs=None if state is State.BLOCKED else {},
        state=state,
        seq=1,
        fence=1 if held else 0,
        epoch=0,
        attempt=1 if held else 0,
        errors=0,
        worker_deaths=0,
        max_attempts=3,
        backoff_s=2.0,
        lease_owner="w" if held or state is State.RESERVED else None,
        lease_until=NOW + timedelta(seconds=10) if held or state is State.RESERVED else None,
        run_after=NOW,
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def decide(of: m.Job, event: m.Event, now: datetime = NOW) -> m.Decision:
    """The decision, with a fixed seed."""
    return m.step(of, event, now, Random(0))


def moved(of: m.Job, event: m.Event, now: datetime = NOW) -> m.Transition:
    """The transition, which there must be."""
    decision = decide(of, event, now)
    assert isinstance(decision, m.Transition), decision
    return decision


def after(of: m.Job, move: m.Transition) -> m.Job:
    """The job as the store holds it after `move`."""
    known = {k: v for k, v in move.changes.items() if hasattr(of, k)}
    return replace(of, state=move.state, seq=of.seq + 1, **known)


def test_a_claim_takes_a_lease_and_raises_the_fence() -> None:
    move = moved(job(), m.Claim("worker", 10.0))
    claimed = after(job(), move)
    assert (claimed.state, claimed.fence, claimed.attempt) == (State.RUNNING, 1, 1)
    assert claimed.lease_until == NOW + timedelta(seconds=10)


def test_a_job_is_claimed_once() -> None:
    first = after(job(), moved(job(), m.Claim("a", 10.0)))
    assert isinstance(decide(first, m.Claim("b", 10.0)), m.Refused)


def test_a_job_is_not_claimed_before_its_time() -> None:
    later = job(run_after=NOW + timedelta(seconds=1))
    assert isinstance(decide(later, m.Claim("a", 10.0)), m.Refused)


def test_a_gang_is_claimed_with_the_epoch_that_was_reserved_for_it() -> None:
    reserved = after(job("train"), moved(job("train"), m.Reserve({"node": 2}, 20.0)))
    stale = decide(reserved, m.Claim("node", 10.0, epoch=reserved.epoch - 1))
    assert isinstance(stale, m.Refused)
    assert stale.stale
    assert moved(reserved, m.Claim("node", 10.0, epoch=reserved.epoch)).state is State.RUNNING


def test_a_gang_is_not_claimed_without_a_reservation() -> None:
    assert isinstance(decide(job("train"), m.Claim("node", 10.0)), m.Refused)


def test_controllers_are_never_claimed() -> None:
    for kind in ("pipeline", "tune"):
        assert isinstance(decide(job(kind), m.Claim("w", 10.0)), m.Refused)


@pytest.mark.parametrize("event", [m.Complete(1), m.Fail(1, {}, retriable=True), m.Died(1, "oom"), m.Stopped(1)])
def test_an_attempt_that_lost_its_fence_changes_nothing(event: m.Event) -> None:
    other_attempt = job(state=State.RUNNING, fence=2)
    decision = decide(other_attempt, event)
    assert isinstance(decision, m.Refused)
    assert decision.stale


def test_an_error_that_may_pass_waits_longer_each_time_up_to_the_limit() -> None:
    waits = []
    for errors in range(3):
        running = job(state=State.RUNNING, errors=errors, max_attempts=10)
        longest = 0.0
        for seed in range(200):
            move = m.step(running, m.Fail(1, {}, retriable=True), NOW, Random(seed))
            assert isinstance(move, m.Transition)
            longest = max(longest, (move.changes["run_after"] - NOW).total_seconds())
        waits.append(longest)
    # Full jitter: uniform up to 2, 4, 8 seconds; the largest of 200 draws is within 5 % of the bound.
    assert waits == pytest.approx([2.0, 4.0, 8.0], rel=0.05)


def test_the_last_attempt_ends_in_quarantine_and_an_operator_can_queue_it_again() -> None:
    last = job(state=State.RUNNING, errors=2)
    quarantined = after(last, moved(last, m.Fail(1, {"message": "x"}, retriable=True)))
    assert quarantined.state is State.QUARANTINED
    again = after(quarantined, moved(quarantined, m.Requeue()))
    assert (again.state, again.errors, again.worker_deaths) == (State.QUEUED, 0, 0)


def test_an_error_that_will_not_pass_fails_at_once() -> None:
    assert moved(job(state=State.RUNNING), m.Fail(1, {}, retriable=False)).state is State.FAILED


def test_a_workers_death_queues_the_job_again_at_once_until_it_has_killed_three() -> None:
    running = job(state=State.RUNNING)
    states = [moved(replace(running, worker_deaths=deaths), m.Died(1, "killed")).state for deaths in range(3)]
    assert states == [State.QUEUED, State.QUEUED, State.QUARANTINED]


def test_only_a_lease_that_has_run_out_is_taken_away() -> None:
    running = job(state=State.RUNNING)
    assert isinstance(decide(running, m.Expire()), m.Refused)
    assert moved(running, m.Expire(), NOW + timedelta(seconds=11)).state is State.QUEUED


@pytest.mark.parametrize("state", [s for s in State if s not in TERMINAL])
@pytest.mark.parametrize("kind", ["probe", "train", "pipeline", "tune"])
def test_a_job_can_be_cancelled_in_every_state_that_is_not_an_end(kind: str, state: State) -> None:
    decision = decide(job(kind, state), m.Cancel("enough"))
    if state is State.CANCELLING:
        assert isinstance(decision, m.Unchanged)
    else:
        assert isinstance(decision, m.Transition)
        assert decision.state in (State.CANCELLED, State.CANCELLING)


def test_a_controller_that_may_have_begun_waits_for_its_children_when_it_is_cancelled() -> None:
    for state in (State.QUEUED, State.RUNNING, State.PAUSED):
        assert moved(job("pipeline", state), m.Cancel()).state is State.CANCELLING
    assert moved(job("pipeline", State.BLOCKED), m.Cancel()).state is State.CANCELLED


def test_a_cancelled_attempt_ends_as_cancelled_however_it_ends() -> None:
    cancelling = job(state=State.CANCELLING)
    for event in (m.Stopped(1), m.Fail(1, {}, retriable=True), m.Fail(1, {}, retriable=False), m.Died(1, "x")):
        assert moved(cancelling, event).state is State.CANCELLED


def test_a_job_that_finishes_before_it_hears_of_the_cancel_has_succeeded() -> None:
    assert moved(job(state=State.CANCELLING), m.Complete(1)).state is State.SUCCEEDED


def test_a_running_job_is_paused_at_its_next_stop_and_a_waiting_one_at_once() -> None:
    pausing = after(job(state=State.RUNNING), moved(job(state=State.RUNNING), m.Pause()))
    assert pausing.state is State.PAUSING
    assert moved(pausing, m.Stopped(1)).state is State.PAUSED
    assert moved(job(), m.Pause()).state is State.PAUSED


def test_a_paused_step_that_had_no_inputs_yet_waits_for_them_again() -> None:
    blocked = job(state=State.BLOCKED)
    paused = after(blocked, moved(blocked, m.Pause()))
    assert moved(paused, m.Resume()).state is State.BLOCKED
    assert moved(job(state=State.PAUSED), m.Resume()).state is State.QUEUED


fences = st.integers(0, 4)
events: st.SearchStrategy[m.Event] = st.one_of(
    st.builds(m.Claim, st.just("w"), st.just(5.0), st.integers(0, 3)),
    st.builds(m.Reserve, st.just("n"), st.just(5.0)),
    st.builds(m.Complete, fences),
    st.builds(m.Fail, fences, st.just({}), st.booleans()),
    st.builds(m.Died, fences, st.just("x")),
    st.builds(m.Stopped, fences),
    st.sampled_from([m.Expire(), m.Wake(), m.Start(), m.Cancel(), m.Pause(), m.Resume(), m.Requeue(), m.Unblock({})]),
    st.builds(m.Settle, st.sampled_from([State.SUCCEEDED, State.FAILED])),
    st.builds(m.GiveUp, st.sampled_from([State.SKIPPED, State.FAILED]), st.just("x")),
)


@given(
    st.sampled_from(["probe", "train", "pipeline"]),
    st.sampled_from([State.QUEUED, State.BLOCKED]),
    st.lists(st.tuples(events, st.floats(0, 8)), max_size=40),
    st.integers(0, 2**16),
)
def test_no_sequence_of_events_breaks_the_rules(
    kind: str, begin: State, happened: list[tuple[m.Event, float]], seed: int
) -> None:
    at, rng, now = job(kind, begin), Random(seed), NOW
    succeeded = 0
    for event, passed in happened:
        now += timedelta(seconds=passed)
        before = at
        decision = m.step(at, event, now, rng)
        if not isinstance(decision, m.Transition):
            continue
        at = after(at, decision)
        assert at.state in LEGAL[before.state], (before.state, event, at.state)
        assert at.fence - before.fence == (1 if isinstance(event, m.Claim) else 0)
        assert not before.state.is_terminal or isinstance(event, m.Requeue)
        succeeded += at.state is State.SUCCEEDED
        leased = at.lease_until is not None
        assert leased == (kind != "pipeline" and (at.state.is_held or at.state is State.RESERVED)), at
    assert succeeded <= 1


@pytest.mark.parametrize("event", [m.Complete(0), m.Died(0, "x"), m.Stopped(0), m.Fail(0, {}, retriable=True)])
def test_a_controller_takes_no_word_of_an_attempt(event: m.Event) -> None:
    running = after(job("pipeline"), moved(job("pipeline"), m.Start()))
    assert isinstance(decide(running, event), m.Refused)
