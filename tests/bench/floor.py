"""The floor of `submit` and `load`: the same rows and indices in one statement, on a bare FastAPI route.

No authentication, no validation, no triggers: the hash and the payloads are constants.
`python -m tests.bench.floor PORT DSN`
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import uuid4

import asyncpg
import httpx
import uvicorn
from fastapi import FastAPI, Request
from sqlalchemy import create_engine, text

from tests.bench.platforms import options

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


@contextmanager
def serving(database_url: str) -> Iterator[str]:
    """The application in a process of its own, with tables of its own in the platform's database; its URL."""
    engine = create_engine(database_url)
    with engine.begin() as conn:
        conn.execute(text("CREATE SCHEMA floor"))
        for statement in MAKE.split(";"):
            conn.execute(text(statement))
    engine.dispose()
    port = options().port
    dsn = database_url.replace("postgresql+psycopg", "postgresql")
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.floor", str(port), dsn])
    try:
        _wait_for(f"http://127.0.0.1:{port}/docs")
        yield f"http://127.0.0.1:{port}/jobs"
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    for _ in range(200):
        try:
            httpx.get(url)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing answers at {url}")


if __name__ == "__main__":
    uvicorn.run(
        build(sys.argv[2]), port=int(sys.argv[1]), log_level="error", access_log=False, loop="uvloop", http="httptools"
    )
