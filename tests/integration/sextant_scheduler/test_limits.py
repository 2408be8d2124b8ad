"""What a key, a tenant and the process may take: told with a word when to come again, and nothing is made of it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select, text

from sextant.stack.servers import free_port
from sextant_shared.store import tables as t

from .conftest import Api

START_S = 30.0


@contextmanager
def limited(api: Api, log: Path, **limits: str) -> Iterator[httpx.Client]:
    """An API process more, on the same servers, with these limits; a client of a tenant of its own."""
    tenant = f"t{free_port(0)}"
    body = {"name": "k", "scopes": ["jobs:write", "jobs:read", "data:write", "admin"], "tenant": tenant}
    secret = api.http.post("/v1/keys", json=body).json()["secret"]
    port = free_port(0)
    environment = {**api.environment, "SEXTANT_API_PORT": str(port), **limits}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "sextant_scheduler", "api"], env=environment, stderr=output)
    headers = {"Authorization": f"Bearer {secret}", "X-Tenant": tenant}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
        try:
            _wait(client)
            yield client
        finally:
            process.terminate()
            process.wait(20)


def _wait(client: httpx.Client) -> None:
    until = time.monotonic() + START_S
    while time.monotonic() < until:
        try:
            if client.get("/v1/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the API did not start")


def told_to_wait(answer: httpx.Response, words: str) -> bool:
    """Whether it is a 429 with these words and a time."""
    assert answer.status_code == 429, answer.text
    assert words in answer.json()["detail"]
    return int(answer.headers["Retry-After"]) >= 1


def stored(api: Api, client: httpx.Client) -> int:
    """How many jobs the client's tenant has."""
    with api.engine.connect() as conn:
        query = select(func.count()).select_from(t.jobs).where(t.jobs.c.tenant == client.headers["X-Tenant"])
        return int(conn.execute(query).scalar_one())


def test_a_key_that_calls_too_often_is_told_when_to_come_again(api: Api, tmp_path: Path) -> None:
    with limited(api, tmp_path / "log", SEXTANT_KEY_RATE="3") as client:
        answers = [client.post("/v1/jobs", json={"kind": "probe"}) for _ in range(12)]
        refused = [answer for answer in answers if answer.status_code != 202]
        assert refused
        assert all(told_to_wait(answer, "3 requests a second") for answer in refused)
        assert stored(api, client) == len(answers) - len(refused)
        time.sleep(int(refused[-1].headers["Retry-After"]))
        assert client.post("/v1/jobs", json={"kind": "probe"}).status_code == 202


PROBE: dict[str, Any] = {"kind": "probe"}
TOO_MANY = [
    ("/v1/jobs", {"kind": "pipeline", "steps": {f"s{number}": PROBE for number in range(6)}}),
    ("/v1/jobs/batch", {"jobs": [PROBE] * 7}),
]


def test_a_tenant_has_so_many_open_jobs_and_no_more(api: Api, tmp_path: Path) -> None:
    with limited(api, tmp_path / "log", SEXTANT_MAX_OPEN_JOBS="6") as client:
        for path, body in TOO_MANY:
            told_to_wait(client.post(path, json=body), "may have 6")
        assert stored(api, client) == 0
        made = [client.post("/v1/jobs", json=PROBE).json()["id"] for _ in range(6)]
        told_to_wait(client.post("/v1/jobs", json=PROBE), "6 open jobs")
        assert stored(api, client) == 6
        # Another tenant is not kept from its own.
        key = {"Authorization": api.http.headers["Authorization"]}
        other = client.post("/v1/jobs", json=PROBE, headers=key)
        assert "open jobs and may have 6" in other.text or other.status_code == 202
        client.post(f"/v1/jobs/{made[0]}/cancel")
        time.sleep(1.1)  # what is counted may be a second old
        assert client.post("/v1/jobs", json=PROBE).status_code == 202


def test_uploads_keys_and_streams_of_a_tenant_are_counted(api: Api, tmp_path: Path) -> None:
    limits = {"SEXTANT_MAX_OPEN_UPLOADS": "1", "SEXTANT_MAX_STREAMS": "1", "SEXTANT_MAX_KEYS": "2"}
    with limited(api, tmp_path / "log", **limits) as client:
        upload = {"path": "a", "size": 3, "sha256": "0" * 64}
        assert client.post("/v1/uploads", json=upload).status_code == 201
        told_to_wait(client.post("/v1/uploads", json=upload), "1 uploads")
        key = {"name": "k", "scopes": ["infer"]}
        assert client.post("/v1/keys", json=key).status_code == 201
        told_to_wait(client.post("/v1/keys", json=key), "2 keys")
        job = client.post("/v1/jobs", json=PROBE).json()["id"]
        with client.stream("GET", f"/v1/jobs/{job}/stream") as first:
            lines = first.iter_lines()  # kept: without it the stream would be closed
            assert next(lines) == "event: state"
            told_to_wait(client.get(f"/v1/jobs/{job}/stream"), "1 live streams")


def test_overload_is_told_at_once_and_what_was_accepted_is_there(api: Api, tmp_path: Path) -> None:
    with limited(api, tmp_path / "log", SEXTANT_MAX_IN_FLIGHT="2") as client, ThreadPoolExecutor(2) as pool:
        client.post("/v1/jobs", json=PROBE)
        with api.engine.begin() as conn:
            conn.execute(text("LOCK TABLE jobs IN EXCLUSIVE MODE"))  # nothing can be inserted while this lasts
            slow = [pool.submit(client.post, "/v1/jobs", json=PROBE) for _ in range(2)]
            until = time.monotonic() + START_S
            while (busy := client.get("/v1/nodes")).status_code != 429:
                # A look may itself take the place of one of the two.
                slow = [pool.submit(client.post, "/v1/jobs", json=PROBE) if one.done() else one for one in slow]
                assert time.monotonic() < until
            assert told_to_wait(busy, "as many requests as it can answer")
            began = time.monotonic()
            assert told_to_wait(client.post("/v1/jobs", json=PROBE), "as many requests")
            assert time.monotonic() - began < 5
            assert client.get("/v1/health/live").status_code == 200
            assert not [future for future in slow if future.done()]
        assert [future.result().status_code for future in slow] == [202, 202]
        assert client.post("/v1/jobs", json=PROBE).status_code == 202
        assert stored(api, client) == 4


@pytest.mark.slow
def test_a_store_that_is_too_busy_for_another_request_is_a_503_and_not_an_error(api: Api, tmp_path: Path) -> None:
    with limited(api, tmp_path / "log") as client, ThreadPoolExecutor(12) as pool:
        release = threading.Event()

        def hold() -> None:
            with api.engine.begin() as conn:
                conn.execute(text("LOCK TABLE nodes IN ACCESS EXCLUSIVE MODE"))
                release.wait(START_S)

        holding = threading.Thread(target=hold)
        holding.start()
        try:
            answers = list(pool.map(lambda _: client.get("/v1/nodes"), range(12)))
        finally:
            release.set()
            holding.join()
        assert {answer.status_code for answer in answers} == {503}
        assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers)
        assert client.get("/v1/nodes").status_code == 403 or client.get("/v1/jobs").status_code == 200
