"""An answer to a submission says that it is durable: not before, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import Engine, func, select, text

from sextant.stack.running import RunningServers
from sextant_scheduler.api.submissions import Submissions
from sextant_scheduler.handlers.submission import new_job
from sextant_shared.bus import Bus
from sextant_shared.contracts.specs import SPEC
from sextant_shared.lifecycle.jobs import NewJob, Submitted
from sextant_shared.store import tables as t
from sextant_shared.store.engine import connect_autocommit

PATIENCE_S = 0.5


def job(key: str) -> NewJob:
    """A probe."""
    spec = SPEC.validate_python({"kind": "probe"})
    return new_job(spec, tenant="default", actor="t", key=key, inputs={})


def kept(engine: Engine) -> int:
    """How many jobs there are."""
    with engine.connect() as conn:
        return int(conn.execute(select(func.count()).select_from(t.jobs)).scalar_one())


async def submissions(servers: RunningServers, url: str) -> tuple[Submissions, Bus]:
    """As the API has them."""
    bus = await Bus.connect(servers.urls.nats_url, "test")
    return Submissions(connect_autocommit(url, size=3), bus), bus


def test_a_submission_is_answered_when_its_row_is_committed_and_not_before(
    database: Engine, database_url: str, servers: RunningServers
) -> None:
    async def run() -> Submitted:
        submitting, bus = await submissions(servers, database_url)
        with database.begin() as conn:
            conn.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))  # nothing can be inserted while this lasts
            waiting = asyncio.create_task(submitting.submit(job("k")))
            done, _ = await asyncio.wait([waiting], timeout=PATIENCE_S)
            assert not done, "answered before anything could have been written"
        answer = await waiting
        await bus.close()
        return answer

    answer = asyncio.run(run())
    assert isinstance(answer.id, UUID)
    assert kept(database) == 1


@pytest.mark.parametrize("number", [40])
def test_what_is_submitted_twice_under_one_key_at_the_same_time_is_one_job(
    database: Engine, database_url: str, servers: RunningServers, number: int
) -> None:
    async def run() -> list[Submitted]:
        submitting, bus = await submissions(servers, database_url)
        answers = await asyncio.gather(*(submitting.submit(job(f"k{i % (number // 2)}")) for i in range(number)))
        await bus.close()
        return list(answers)

    answers = asyncio.run(run())
    assert sum(answer.created for answer in answers) == kept(database) == number // 2
