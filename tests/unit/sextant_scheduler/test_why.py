"""Why a job waits: the reason, and what would change it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from sextant_scheduler.domain.placement import Node
from sextant_scheduler.domain.why import Situation, explain
from sextant_shared.lifecycle.states import State

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED = Situation(
    state=State.QUEUED,
    kind="train",
    ranks=2,
    least=2,
    now=NOW,
    run_after=NOW,
    lease_owner=None,
    lease_until=None,
    error=None,
    paused_parent=None,
    unmet=[],
    ahead=[],
    running=[],
    nodes=[Node("n", 4, 4)],
)


@pytest.mark.parametrize(
    ("change", "rule", "says"),
    [
        ({"nodes": []}, "no-node", "no trainer node"),
        ({"ranks": 5, "least": 5}, "too-wide", "have 4 together"),
        ({"ranks": 5}, "placing", "being placed"),
        ({"nodes": [Node("n", 4, 1)], "running": [uuid4()]}, "slots", "on one node; the most free is 1"),
        (
            {"nodes": [Node("n", 2, 1), Node("m", 2, 1)], "ranks": 3, "least": 3},
            "slots",
            "together; the most free is 2",
        ),
        ({"ahead": [uuid4(), uuid4()]}, "order", "2 queued train jobs"),
        ({"kind": "export"}, "no-worker", "no worker for export"),
        ({"kind": "export", "running": [uuid4()]}, "busy", "export workers"),
        ({"state": State.BLOCKED, "unmet": [("data", uuid4(), "RUNNING")]}, "inputs", "'data', which is RUNNING"),
        (
            {"state": State.RETRY_WAIT, "run_after": NOW + timedelta(seconds=3), "error": {"message": "full"}},
            "backoff",
            "in 3.0 s after: full",
        ),
        ({"state": State.QUARANTINED, "error": {"message": "bad"}}, "quarantine", "bad"),
        ({"state": State.PAUSED}, "paused", "paused"),
        ({"state": State.SUCCEEDED}, "ended", "SUCCEEDED"),
    ],
)
def test_the_first_reason_names_what_the_job_waits_for(change: dict[str, object], rule: str, says: str) -> None:
    first = explain(replace(QUEUED, **change))[0]  # type: ignore[arg-type]
    assert first.rule == rule
    assert says in first.message


def test_every_state_has_a_reason() -> None:
    for state in State:
        unmet = [("data", uuid4(), "RUNNING")] if state is State.BLOCKED else []
        assert explain(replace(QUEUED, state=state, unmet=unmet))


def test_a_paused_pipeline_is_named_beside_the_steps_own_reason() -> None:
    parent = uuid4()
    assert explain(replace(QUEUED, paused_parent=parent))[-1].jobs == [parent]
