"""Each message version has a golden file: what old senders sent must be read for ever, and be sent unchanged.

A new optional field keeps the version and is added to the file; anything else is a new version with a file of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, select

from sextant_scheduler.handlers.submission import new_job
from sextant_shared.contracts.base import Received
from sextant_shared.contracts.messages import JobEvent, NodeAlive, Wake
from sextant_shared.contracts.specs import SPEC
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle import machine as m
from sextant_shared.store import audit
from sextant_shared.store import tables as t

GOLDEN = Path(__file__).parent / "golden"
MODELS: dict[str, type[Received]] = {"job.state.v1": JobEvent, "node.alive.v1": NodeAlive, "wake.v1": Wake}


def golden(name: str) -> dict[str, Any]:
    """A message as it is on the wire."""
    content: dict[str, Any] = json.loads((GOLDEN / f"{name}.json").read_text())
    return content


@pytest.mark.parametrize("name", MODELS)
def test_a_golden_message_is_read_and_written_back_unchanged(name: str) -> None:
    message = MODELS[name].model_validate_json(json.dumps(golden(name)))
    again = json.loads(message.model_dump_json())
    assert {k: v for k, v in again.items() if k != "occurred_at"} == {
        k: v for k, v in golden(name).items() if k != "occurred_at"
    }


@pytest.mark.parametrize("name", MODELS)
def test_a_newer_sender_may_add_fields(name: str) -> None:
    MODELS[name].model_validate_json(json.dumps({**golden(name), "added_later": {"x": 1}}))


def test_what_the_database_sends_has_the_golden_form(database: Engine) -> None:
    with database.begin() as conn:
        job = new_job(SPEC.validate_python({"kind": "probe"}), tenant="default", actor="a", key="k", inputs={})
        jobs.submit(conn, [job])
        jobs.apply(conn, job.id, m.Claim("w", 10.0), actor="w", rng=Random(0))
        detail = {"name": "ci", "prefix": "0123456789ab", "scopes": ["jobs:read"]}
        audit.append(conn, "key", job.id, tenant="default", actor="a", event="created", detail=detail)
        payloads = list(conn.execute(select(t.outbox.c.payload).order_by(t.outbox.c.id)).scalars())
    _, claimed, key = payloads
    varying = {"event_id", "occurred_at", "correlation_id", "job_id", "root_id", "subject_id"}
    for payload, name in ((claimed, "job.state.v1"), (key, "key.changed.v1")):
        expected = golden(name)
        assert payload.keys() == expected.keys()
        assert {k: v for k, v in payload.items() if k not in varying} == {
            k: v for k, v in expected.items() if k not in varying
        }
    JobEvent.model_validate(claimed)
