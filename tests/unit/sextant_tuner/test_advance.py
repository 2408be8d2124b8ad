"""What becomes of a search that cannot be decided: it fails, alone, and says why."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random
from typing import Any
from unittest.mock import MagicMock
from uuid import UUID

import pytest

from sextant_shared.errors import InvalidInput
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle.machine import Event, Job, Settle, step
from sextant_shared.lifecycle.states import State
from sextant_tuner import handlers, store

JOB = UUID(int=7)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def search(**spec: Any) -> Job:
    """A search that runs."""
    body = {"kind": "tune", "data": {"dataset": "d"}, "model": {"zoo": "mlp"}, "maximize": "val_accuracy", **spec}
    return Job(
        id=JOB,
        tenant="t",
        kind="tune",
        name="s",
        root_id=JOB,
        parent_id=None,
        step=None,
        spec=body,
        inputs={},
        state=State.RUNNING,
        seq=1,
        fence=1,
        epoch=1,
        attempt=1,
        errors=0,
        worker_deaths=0,
        max_attempts=3,
        backoff_s=2.0,
        lease_owner=None,
        lease_until=None,
        run_after=NOW,
    )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """The events that a round applies, with the lifecycle's own rules and no database."""
    events: list[Event] = []

    def apply(conn: object, job_id: UUID, event: Event, *, actor: str, rng: Random) -> Any:
        events.append(event)
        return None, step(search(), event, NOW, rng)

    monkeypatch.setattr(store, "history", lambda conn, job_id, metric: [])
    monkeypatch.setattr(jobs, "apply", apply)
    return events


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (InvalidInput("no", field="space.x"), {"message": "no", "field": "space.x"}),
        (OverflowError("too large"), {"message": "the search cannot go on: OverflowError: too large"}),
    ],
    ids=["of the spec", "of any kind"],
)
def test_an_error_of_one_search_ends_that_search(
    told: list[Event], monkeypatch: pytest.MonkeyPatch, error: Exception, detail: dict[str, Any]
) -> None:
    monkeypatch.setattr(handlers, "decide", MagicMock(side_effect=error))
    assert handlers._round(MagicMock(), search(), Random(0))
    assert told == [Settle(State.FAILED, detail)]


def test_a_space_that_the_training_does_not_take_fails_the_search_by_its_field(told: list[Event]) -> None:
    job = search(space={"epochs": {"low": 1.25, "high": 1.75}})
    assert handlers._round(MagicMock(), job, Random(0))
    (event,) = told
    assert isinstance(event, Settle)
    assert event.state is State.FAILED
    assert event.detail["field"] == "space.epochs"
