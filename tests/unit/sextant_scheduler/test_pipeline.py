"""What a pipeline does next."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from sextant_scheduler.domain.pipeline import Begin, Child, CreateStep, Finish, Tell, decide
from sextant_shared.contracts.specs import PipelineSpec
from sextant_shared.lifecycle.machine import Cancel, GiveUp, Pause, Resume, Unblock
from sextant_shared.lifecycle.states import State

DATASET = {"type": "dataset", "name": "d", "version": 1}
STEPS: dict[str, Any] = {
    "train": {"kind": "train", "data": {"step": "data"}, "model": {"zoo": "mlp"}},
    "data": {"kind": "prepare", "source": "package://sklearn/digits", "task": "image-classification"},
    "export": {"kind": "export", "model": {"step": "train"}},
}


def spec(**changes: Any) -> PipelineSpec:
    """data -> train -> export."""
    return PipelineSpec.model_validate({"kind": "pipeline", "steps": STEPS, **changes})


def child(step: str, state: State, **outputs: Any) -> Child:
    """A step's job."""
    return Child(uuid4(), step, state, outputs)


def run(children: list[Child], state: State = State.RUNNING, pipeline: PipelineSpec | None = None) -> list[Any]:
    """The actions."""
    return list(decide(pipeline or spec(), state, children, {}))


def test_the_start_creates_every_step_and_only_those_without_needs_may_run() -> None:
    actions = run([], State.QUEUED)
    assert isinstance(actions[0], Begin)
    assert actions[1:] == [CreateStep("data", {}), CreateStep("train", None), CreateStep("export", None)]


def test_a_step_starts_when_all_that_it_needs_has_succeeded_with_their_outputs_as_inputs() -> None:
    data = child("data", State.SUCCEEDED, dataset=DATASET)
    train, export = child("train", State.BLOCKED), child("export", State.BLOCKED)
    assert run([data, train, export]) == [Tell(train.id, Unblock({"data": DATASET}))]


def test_nothing_happens_while_a_need_still_runs() -> None:
    assert run([child("data", State.RUNNING), child("train", State.BLOCKED), child("export", State.BLOCKED)]) == []


@pytest.mark.parametrize(("choice", "end"), [("fail", State.FAILED), ("skip", State.SKIPPED)])
def test_dependents_of_a_failed_step_end_as_the_spec_says(choice: str, end: State) -> None:
    train, export = child("train", State.BLOCKED), child("export", State.BLOCKED)
    (given_up,) = run([child("data", State.FAILED), train, export], pipeline=spec(on_failure=choice))
    assert given_up.job_id == train.id
    assert isinstance(given_up.event, GiveUp)
    assert given_up.event.state is end


def test_a_step_whose_need_made_no_such_output_fails_and_says_what_there_was() -> None:
    data = child("data", State.SUCCEEDED, something=1)
    (told,) = run([data, child("train", State.BLOCKED), child("export", State.BLOCKED)])
    assert isinstance(told.event, GiveUp)
    assert "something" in told.event.reason


def test_a_pipeline_succeeds_with_the_outputs_of_its_steps() -> None:
    done = [child("data", State.SUCCEEDED, a=1), child("train", State.SUCCEEDED), child("export", State.SUCCEEDED)]
    (finish,) = run(done)
    assert isinstance(finish, Finish)
    assert finish.event.state is State.SUCCEEDED
    assert finish.outputs["data"] == {"a": 1}


def test_a_pipeline_with_a_step_that_did_not_succeed_fails_and_names_it() -> None:
    ended = [child("data", State.SUCCEEDED), child("train", State.QUARANTINED), child("export", State.SKIPPED)]
    (finish,) = run(ended)
    assert finish.event.state is State.FAILED
    assert finish.event.detail["steps"] == ["train"]


def test_cancelling_stops_the_steps_first_and_ends_when_they_have() -> None:
    running, blocked = child("data", State.RUNNING), child("train", State.BLOCKED)
    stops = run([running, blocked, child("export", State.CANCELLED)], State.CANCELLING)
    assert [(s.job_id, type(s.event)) for s in stops] == [(running.id, Cancel), (blocked.id, Cancel)]
    assert run([child("data", State.CANCELLING), child("train", State.CANCELLED)], State.CANCELLING) == []
    (finish,) = run([child("data", State.CANCELLED), child("train", State.CANCELLED)], State.CANCELLING)
    assert isinstance(finish, Finish)


def test_a_pipeline_cancelled_before_it_began_ends() -> None:
    (finish,) = run([], State.CANCELLING)
    assert isinstance(finish, Finish)


def test_pausing_and_resuming_reach_every_step_that_has_not_ended() -> None:
    done, running = child("data", State.SUCCEEDED), child("train", State.RUNNING)
    assert run([done, running], State.PAUSED) == [Tell(running.id, Pause())]
    paused = child("train", State.PAUSED)
    actions = run([done, paused], State.QUEUED)
    assert [type(a) for a in actions] == [Begin, Tell]
    assert actions[1] == Tell(paused.id, Resume())


def test_a_pipeline_resumed_too_soon_waits_until_its_steps_have_stopped() -> None:
    assert run([child("data", State.PAUSING), child("train", State.PAUSED)], State.QUEUED) == []


def test_the_same_state_calls_for_the_same_actions_again() -> None:
    children = [
        Child(UUID(int=1), "data", State.SUCCEEDED, {"dataset": DATASET}),
        Child(UUID(int=2), "train", State.BLOCKED, {}),
        Child(UUID(int=3), "export", State.BLOCKED, {}),
    ]
    assert run(children) == run(children)
