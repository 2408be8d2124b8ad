"""The floor of `submit`: the same rows and indices in one statement, behind a bare FastAPI route, by asyncpg.

No authentication, no validation, no triggers: the hash and the payloads are constants.
`python -m tests.bench.floor PORT DSN`
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import uvicorn
from fastapi import FastAPI, Request

TABLES = ("jobs", "audit", "outbox")
MAKE = ";".join(f"CREATE TABLE floor.{name} (LIKE public.{name} INCLUDING ALL)" for name in TABLES)
INSERT = """
WITH job AS (
    INSERT INTO floor.jobs (id, tenant, kind, name, spec, body_hash, idem_key, root_id, actor, created_by, event, state,
                            detail, audit_hash, inputs)
    VALUES ($1, 'default', 'probe', 'probe', $2, $3, $4, $1, 'key:admin', 'key:admin', 'submitted', 'QUEUED', $5, $3,
            '{}')
    RETURNING id
), row AS (
    INSERT INTO floor.audit (subject_type, subject_id, seq, at, tenant, actor, event, to_state, fence, attempt, body,
                             prev_hash, hash)
    VALUES ('job', $1, 1, clock_timestamp(), 'default', 'key:admin', 'submitted', 'QUEUED', 0, 0, $5::text, '', $3)
)
INSERT INTO floor.outbox (msg_id, subject, payload) VALUES ($1::text || ':1', 'jobs.probe.queued.v1', $5)
"""
HASH = bytes(32)
SPEC = '{"kind": "probe", "name": null, "retry": {"backoff_s": 2.0, "max_attempts": 3}, "outcome": "succeed"}'
DETAIL = '{"body_sha256": "0000000000000000000000000000000000000000000000000000000000000000", "kind": "probe"}'


def build(dsn: str) -> FastAPI:
    """The application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with asyncpg.create_pool(dsn, min_size=16, max_size=16) as pool:
            app.state.pool = pool
            yield

    app = FastAPI(lifespan=lifespan)

    @app.post("/jobs", status_code=202)
    async def submit(request: Request) -> dict[str, str]:
        job_id = uuid4()
        await request.body()
        async with app.state.pool.acquire() as conn:
            await conn.execute(INSERT, job_id, SPEC, HASH, str(job_id), DETAIL)
        return {"id": str(job_id), "state": "QUEUED"}

    return app


if __name__ == "__main__":
    uvicorn.run(
        build(sys.argv[2]), port=int(sys.argv[1]), log_level="error", access_log=False, loop="uvloop", http="httptools"
    )
