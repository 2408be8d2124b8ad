"""What people may ask of a job in every state that it can be in."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from sextant_scheduler.handlers.submission import new_job
from sextant_shared.contracts.specs import SPEC
from sextant_shared.ids import new_id
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle import machine as m
from sextant_shared.lifecycle.states import State

from .conftest import Api

TRAIN = {"kind": "train", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}}


CLAIM = m.Claim("w", 3600.0)
BRING: dict[State, tuple[m.Event, ...]] = {
    State.BLOCKED: (),
    State.QUEUED: (),
    State.RESERVED: (m.Reserve({"n": 1}, 3600.0),),
    State.RUNNING: (CLAIM,),
    State.RETRY_WAIT: (CLAIM, m.Fail(1, {"message": "x"}, retriable=True)),
    State.PAUSING: (CLAIM, m.Pause()),
    State.PAUSED: (m.Pause(),),
    State.CANCELLING: (CLAIM, m.Cancel()),
    State.SUCCEEDED: (CLAIM, m.Complete(1)),
    State.FAILED: (CLAIM, m.Fail(1, {"message": "x"}, retriable=False)),
    State.CANCELLED: (m.Cancel(),),
    State.SKIPPED: (m.GiveUp(State.SKIPPED, "x"),),
    State.QUARANTINED: tuple(event for fence in (1, 2, 3) for event in (CLAIM, m.Died(fence, "x"))),
}
AFTER: dict[str, dict[State, State]] = {
    "cancel": {
        State.BLOCKED: State.CANCELLED,
        State.QUEUED: State.CANCELLED,
        State.RESERVED: State.CANCELLED,
        State.RUNNING: State.CANCELLING,
        State.RETRY_WAIT: State.CANCELLED,
        State.PAUSING: State.CANCELLING,
        State.PAUSED: State.CANCELLED,
        State.CANCELLING: State.CANCELLING,
        State.CANCELLED: State.CANCELLED,
    },
    "pause": {
        State.BLOCKED: State.PAUSED,
        State.QUEUED: State.PAUSED,
        State.RESERVED: State.PAUSED,
        State.RUNNING: State.PAUSING,
        State.RETRY_WAIT: State.PAUSED,
        State.PAUSING: State.PAUSING,
        State.PAUSED: State.PAUSED,
    },
    "resume": {State.PAUSED: State.QUEUED},
    "retry": {State.FAILED: State.QUEUED, State.CANCELLED: State.QUEUED, State.QUARANTINED: State.QUEUED},
}
"""The state that a command leads to; where it is missing, the command is refused."""


def job_in(api: Api, state: State) -> UUID:
    """A job in this state."""
    spec = SPEC.validate_python(TRAIN if state is State.RESERVED else {"kind": "probe"})
    inputs: dict[str, Any] | None = None if state in (State.BLOCKED, State.SKIPPED) else {}
    job = new_job(spec, tenant="default", actor="t", key=str(new_id()), inputs=inputs)
    with api.engine.begin() as conn:
        jobs.submit(conn, [job])
        for event in BRING[state]:
            jobs.insist(jobs.apply(conn, job.id, event, actor="t", rng=Random(0))[1])
        assert conn.execute(text("SELECT state FROM jobs WHERE id = :id"), {"id": job.id}).scalar_one() == state
    return job.id


@pytest.mark.parametrize("command", sorted(AFTER))
@pytest.mark.parametrize("state", list(State))
def test_a_command_does_what_the_state_allows_and_is_refused_otherwise(api: Api, command: str, state: State) -> None:
    job_id = job_in(api, state)
    before = api.http.get(f"/v1/jobs/{job_id}/events").json()["items"]
    answer = api.http.post(f"/v1/jobs/{job_id}/{command}")
    wanted = AFTER[command].get(state)
    if wanted is None:
        assert answer.status_code == 409, answer.text
        assert state in answer.json()["detail"]
        assert api.http.get(f"/v1/jobs/{job_id}/events").json()["items"] == before
    else:
        assert answer.status_code == 202, answer.text
        assert answer.json()["state"] == wanted
        assert (answer.json()["id"] == str(job_id)) == (command != "retry" or state is State.QUARANTINED)
