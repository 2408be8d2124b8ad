"""Whoever can write to a broker can wake, and nothing else: what is forged there changes no job, and stops nobody."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import nats
import pytest
import redis
from sqlalchemy import select

from sextant_shared import queue
from sextant_shared.contracts.messages import MEMBERSHIP, WAKE
from sextant_shared.lifecycle.states import State
from sextant_shared.queue import TASK, build_queue
from sextant_shared.store import tables as t

from .conftest import Api

PATIENCE_S = 60.0


class Opens:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.path), "w")


def message(body: bytes, kind: str, task: str = TASK, encoding: str = "utf-8") -> bytes:
    """As Celery puts it into Redis."""
    delivery = {"exchange": "", "routing_key": "probe"}
    properties = {"body_encoding": "base64", "delivery_tag": str(uuid4()), "delivery_info": delivery, "priority": 0}
    headers = {"task": task, "id": str(uuid4()), "lang": "py", "argsrepr": "", "kwargsrepr": ""}
    whole = {
        "body": base64.b64encode(body).decode(),
        "content-type": kind,
        "content-encoding": encoding,
        "headers": headers,
        "properties": {**properties, "correlation_id": headers["id"], "delivery_mode": 2, "reply_to": str(uuid4())},
    }
    return json.dumps(whole).encode()


def arguments(*values: Any, **named: Any) -> bytes:
    """Of a task."""
    return json.dumps([values, named, {}]).encode()


def state(api: Api, job_id: str) -> State:
    """Of a job."""
    with api.engine.connect() as conn:
        return State(conn.execute(select(t.jobs.c.state).where(t.jobs.c.id == job_id)).scalar_one())


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for it while the process lives."""
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < until, log.read_text()[-3000:]
        time.sleep(0.1)


@pytest.fixture
def worker(api: Api, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A worker of the queue `probe`, and its log."""
    log = tmp_path / "log"
    environment = {**api.environment, "SEXTANT_WORK_DIR": str(tmp_path / "work"), "SEXTANT_NODE_NAME": "forged"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sextant_data_prep", "worker"], env=environment, stderr=output, cwd=os.sep
        )
    yield process, log
    process.terminate()
    process.wait(30)


def test_forged_messages_in_a_queue_run_nothing_and_stop_nobody(
    api: Api, worker: tuple[subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    process, log = worker
    made = tmp_path / "made"
    evil = pickle.dumps(((Opens(made),), {}, {}))
    queued = api.submit({"kind": "probe", "returns": {"x": 1}})["id"]
    ended = api.submit({"kind": "probe"})["id"]
    api.http.post(f"/v1/jobs/{ended}/cancel")
    train = api.submit({"kind": "pipeline", "steps": {"a": {"kind": "probe"}}})["id"]
    forged = [
        message(evil, "application/x-python-serialize", encoding="binary"),
        message(evil, "application/x-pickle", encoding="binary"),
        message(evil, "application/json"),
        message(b"!!python/object/apply:os.system ['id']", "application/x-yaml"),
        message(arguments(str(uuid4())), "application/json"),
        message(arguments("not-an-id"), "application/json"),
        message(arguments({"job_id": queued}), "application/json"),
        message(arguments(queued, queued), "application/json"),
        message(arguments(job_id=queued, fence=99), "application/json"),
        message(arguments(ended), "application/json"),
        message(arguments(train), "application/json"),
        message(arguments("x" * 1_000_000), "application/json"),
        message(b"[" * 10_000, "application/json"),
        message(arguments(queued), "application/json", task="os.system"),
        message(arguments(queued), "application/json", task="celery.backend_cleanup"),
    ]
    with redis.Redis.from_url(api.environment["SEXTANT_REDIS_URL"].replace("redis+socket://", "unix://")) as broker:
        for one in forged:
            broker.lpush("probe", one)
        wait_for(lambda: broker.llen("probe") == 0, process, log)
    last = api.submit({"kind": "probe"})["id"]
    # A message wakes for the first job of the queue, and other tests have left some there.
    with api.engine.connect() as conn:
        waiting = conn.execute(
            select(t.jobs.c.id).where(t.jobs.c.kind == "probe", t.jobs.c.state == State.QUEUED)
        ).all()
    for _ in waiting:
        queue.send(build_queue(api.environment["SEXTANT_REDIS_URL"]), "probe", last)
    wait_for(lambda: state(api, last) is State.SUCCEEDED, process, log)
    assert not made.exists()
    assert state(api, ended) is State.CANCELLED
    assert state(api, train) is State.RUNNING or state(api, train) is State.QUEUED
    rows = api.http.get("/v1/audit", params={"subject": ended}).json()["items"]
    assert [row["to_state"] for row in rows] == [State.QUEUED, State.CANCELLED]


SUBJECTS = ["jobs.probe.succeeded.v1", "jobs.train.reserved.v1", "jobs.x.cancelling.v1", "endpoints.ready.v1"]
PAYLOADS = [
    b"",
    b"null",
    b"[]",
    b"{",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"root_id": "x"}',
    b'{"root_id": 1, "job_id": null}',
    b'{"queued": [["x", "probe"]]}',
    b'{"name": "a\\u0000", "instance": "i", "slots": 1}',
    b'{"name": "n", "instance": "i", "slots": 99999999999999999999}',
    b'{"name": "n", "instance": "i", "slots": -1}',
    b"x" * 1_000_000,
]


def test_forged_events_change_no_job_and_stop_no_process(api: Api) -> None:
    job = api.submit({"kind": "probe"})["id"]
    row = api.http.get(f"/v1/jobs/{job}").json()
    lie = {
        "type": "job.state.v1",
        "event_id": f"{job}:2",
        "occurred_at": "2026-01-01T00:00:00Z",
        "seq": 2,
        "correlation_id": job,
        "job_id": job,
        "root_id": job,
        "parent_id": None,
        "tenant": "other",
        "kind": "probe",
        "name": "p",
        "event": "completed",
        "from_state": "RUNNING",
        "state": "SUCCEEDED",
        "fence": 1,
        "attempt": 1,
    }

    async def publish() -> None:
        client = await nats.connect(api.environment["SEXTANT_NATS_URL"])
        for subject in (*SUBJECTS, WAKE, MEMBERSHIP, f"live.{job}.{job}.log", "live.x.y.z", "live.x"):
            for payload in (*PAYLOADS, json.dumps(lie).encode()):
                await client.publish(subject, payload)
        await client.flush()
        await client.close()

    command = [sys.executable, "-m", "sextant_scheduler", "control"]
    control = subprocess.Popen(command, env=api.environment, stderr=subprocess.DEVNULL)
    try:
        time.sleep(2)
        asyncio.run(publish())
        time.sleep(1)
        assert control.poll() is None
    finally:
        control.terminate()
        control.wait(20)
    assert api.http.get(f"/v1/jobs/{job}").json() == row
    assert api.http.get("/v1/health/ready").status_code == 200
    assert not [node for node in api.http.get("/v1/nodes").json()["items"] if node["slots"] < 1]
    assert api.http.get(f"/v1/jobs/{job}/logs").status_code == 200
