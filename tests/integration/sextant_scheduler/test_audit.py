"""The audit log finds what was changed behind its back."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, text

from sextant_scheduler.handlers import audit
from sextant_scheduler.handlers.submission import new_job
from sextant_shared.contracts.specs import SPEC
from sextant_shared.lifecycle import jobs
from sextant_shared.lifecycle import machine as m

JOBS = 4


@pytest.fixture
def logged(database: Engine) -> Engine:
    """Jobs with three rows each, one of them with text that JSON escapes."""
    probe = SPEC.validate_python({"kind": "probe"})
    with database.begin() as conn:
        for number in range(JOBS):
            job = new_job(probe, tenant="default", actor="k\u00e9y:\u2028 \"'", key=str(number), inputs={})
            jobs.submit(conn, [job])
            jobs.apply(conn, job.id, m.Claim("w", 10.0), actor="w", rng=Random(0))
            jobs.apply(
                conn,
                job.id,
                m.Fail(1, {"message": 'a "b" \\ \u00fc \U0001f600'}, retriable=False),
                actor="w",
                rng=Random(0),
            )
    return database


def verdict(engine: Engine) -> Any:
    """Of the whole log."""
    with engine.connect() as conn:
        return audit.verify(conn, "default")


def test_an_untouched_log_holds(logged: Engine) -> None:
    found = verdict(logged)
    assert (found.verdict, found.rows, found.subjects) == ("ok", 3 * JOBS, JOBS)


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE audit SET actor = 'someone' WHERE {row}",
        "UPDATE audit SET body = '{{}}' WHERE {row} AND seq = 3",
        "UPDATE audit SET at = at + interval '1 microsecond' WHERE {row}",
        "UPDATE audit SET event = 'other' WHERE {row}",
        "UPDATE audit SET to_state = 'FAILED' WHERE {row} AND seq = 2",
        "UPDATE audit SET fence = fence + 1 WHERE {row}",
        "UPDATE audit SET prev_hash = hash WHERE {row} AND seq = 2",
        "DELETE FROM audit WHERE {row} AND seq = 1",
        "DELETE FROM audit WHERE {row} AND seq = 2",
        "DELETE FROM audit WHERE {row} AND seq = 3",
        "DELETE FROM audit WHERE {row}",
        (
            "INSERT INTO audit SELECT * FROM (SELECT (jsonb_populate_record(a, '{{\"seq\": 4}}')).* FROM audit a"
            " WHERE {row} AND seq = 3) AS extra"
        ),
        "UPDATE jobs SET state = 'SUCCEEDED' WHERE id = (SELECT min(id::text)::uuid FROM jobs)",
    ],
)
def test_whatever_is_changed_is_found_and_named(logged: Engine, tampering: str) -> None:
    row = "subject_id = (SELECT min(subject_id::text)::uuid FROM audit)"
    with logged.begin() as conn:
        victim = conn.execute(text("SELECT min(id::text) FROM jobs")).scalar_one()
        # As someone with all rights on the server would.
        conn.execute(text("SET session_replication_role = replica"))
        conn.execute(text(tampering.format(row=row)))
        conn.execute(text("SET session_replication_role = DEFAULT"))
    found = verdict(logged)
    assert found.verdict == "tampered"
    assert victim in found.first_bad
