"""The REST API of jobs: accepting, refusing, reading, commanding."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import select

from sextant_shared.bus import ThreadedBus
from sextant_shared.store import tables as t

from .conftest import Api


def test_an_accepted_job_is_durable_with_its_audit_row(api: Api) -> None:
    made = api.submit({"kind": "probe", "name": "mine"})
    with api.engine.connect() as conn:
        row = conn.execute(select(t.jobs).where(t.jobs.c.id == made["id"])).one()
        audit = conn.execute(select(t.audit).where(t.audit.c.subject_id == made["id"])).all()
    assert (row.name, row.state, row.actor) == ("mine", "QUEUED", "key:admin")
    assert [a.event for a in audit] == ["submitted"]


def test_the_same_request_with_the_same_key_gives_the_same_job(api: Api) -> None:
    key = str(uuid4())
    first = api.submit(key=key)
    again = api.http.post("/v1/jobs", json={"kind": "probe"}, headers={"Idempotency-Key": key})
    assert again.status_code == 200
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json()["id"] == first["id"]


def test_defaults_that_are_written_out_make_no_other_body(api: Api) -> None:
    key = str(uuid4())
    first = api.submit(key=key)
    spelled = {"sleep_s": 0.0, "kind": "probe", "priority": 0}
    again = api.http.post("/v1/jobs", json=spelled, headers={"Idempotency-Key": key})
    assert (again.status_code, again.json()["id"]) == (200, first["id"])


def test_another_body_under_a_used_key_is_refused(api: Api) -> None:
    key = str(uuid4())
    api.submit(key=key)
    other = api.http.post("/v1/jobs", json={"kind": "probe", "sleep_s": 1.0}, headers={"Idempotency-Key": key})
    assert other.status_code == 422
    assert other.json()["errors"][0]["field"] == "Idempotency-Key"


def test_a_hundred_submissions_at_once_with_twenty_keys_make_twenty_jobs(api: Api) -> None:
    keys = [str(uuid4()) for _ in range(20)]

    def submit(number: int) -> str:
        headers = {"Idempotency-Key": keys[number % 20]}
        answer = api.http.post("/v1/jobs", json={"kind": "probe"}, headers=headers)
        assert answer.status_code in (200, 202), answer.text
        return str(answer.json()["id"])

    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(submit, range(100)))
    assert len(ids) == 20


@pytest.mark.parametrize("command", ["cancel", "pause"])
def test_a_command_is_done_once_a_key_and_answered_again(api: Api, command: str) -> None:
    job = api.submit()["id"]
    headers = {"Idempotency-Key": str(uuid4())}
    first = api.http.post(f"/v1/jobs/{job}/{command}", headers=headers)
    again = api.http.post(f"/v1/jobs/{job}/{command}", headers=headers)
    assert first.status_code == again.status_code == 202
    assert first.json() == again.json()
    events = api.http.get(f"/v1/jobs/{job}/events").json()["items"]
    assert len(events) == 2
    other = api.http.post(f"/v1/jobs/{api.submit()['id']}/{command}", headers=headers)
    assert other.status_code == 422


def test_a_job_that_has_ended_cannot_be_paused(api: Api) -> None:
    job = api.submit()["id"]
    api.http.post(f"/v1/jobs/{job}/cancel", json={"reason": "enough"})
    refused = api.http.post(f"/v1/jobs/{job}/pause")
    assert refused.status_code == 409
    assert "CANCELLED" in refused.json()["detail"]


def test_a_cancelled_job_is_retried_as_a_new_one(api: Api) -> None:
    job = api.submit({"kind": "probe", "name": "again"})["id"]
    api.http.post(f"/v1/jobs/{job}/cancel")
    retried = api.http.post(f"/v1/jobs/{job}/retry")
    assert retried.status_code == 202
    assert retried.json()["id"] != job
    assert (retried.json()["name"], retried.json()["state"]) == ("again", "QUEUED")


def test_pages_hold_every_job_once_and_the_newest_first(api: Api) -> None:
    name = f"n{uuid4().hex[:8]}"
    made = [api.submit({"kind": "probe", "name": name})["id"] for _ in range(7)]
    seen: list[str] = []
    cursor: str | None = None
    while True:
        query: dict[str, str | int] = {"name": name, "limit": 3}
        if cursor:
            query["cursor"] = cursor
        page = api.http.get("/v1/jobs", params=query).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == made[::-1]


def test_a_dry_run_says_what_is_wrong_and_changes_nothing(api: Api) -> None:
    before = api.http.get("/v1/jobs", params={"limit": 1}).json()["items"]
    verdict = api.http.post("/v1/jobs/validate", json={"kind": "train", "data": {"dataset": "none"}}).json()
    assert not verdict["valid"]
    assert api.http.post("/v1/jobs/validate", json={"kind": "probe"}).json()["valid"]
    assert api.http.get("/v1/jobs", params={"limit": 1}).json()["items"] == before


def test_ids_that_are_none_and_ids_that_are_unknown(api: Api) -> None:
    assert api.http.get("/v1/jobs/not-an-id").status_code == 422
    assert api.http.get(f"/v1/jobs/{uuid4()}").status_code == 404
    assert api.http.post(f"/v1/jobs/{uuid4()}/cancel").status_code == 404
    assert api.http.get("/v1/jobs", params={"limit": 0}).status_code == 422
    assert api.http.get("/v1/nothing").status_code == 404
    assert api.http.put("/v1/jobs").status_code == 405


def test_a_batch_is_accepted_in_order_all_or_none_and_once_a_key(api: Api) -> None:
    jobs = [{"kind": "probe", "name": f"b{index}"} for index in range(5)]
    headers = {"Idempotency-Key": str(uuid4())}
    first = api.http.post("/v1/jobs/batch", json={"jobs": jobs}, headers=headers).json()
    assert [item["name"] for item in first["items"]] == [f"b{index}" for index in range(5)]
    assert api.http.post("/v1/jobs/batch", json={"jobs": jobs}, headers=headers).json() == first
    assert api.http.post("/v1/jobs/batch", json={"jobs": jobs[:4]}, headers=headers).status_code == 422
    newest = api.http.get("/v1/jobs", params={"limit": 1}).json()["items"]
    for bad, field in (({"kind": "probe", "x": 1}, "x"), ({"kind": "export", "model": {"model": "none"}}, "model")):
        refused = api.http.post("/v1/jobs/batch", json={"jobs": [*jobs, bad]})
        assert refused.status_code == 422
        assert refused.json()["errors"][0]["field"] == f"jobs.5.{field}"
    assert api.http.get("/v1/jobs", params={"limit": 1}).json()["items"] == newest


def test_why_says_what_a_queued_job_waits_for(api: Api) -> None:
    job = api.submit({"kind": "probe", "priority": 100})["id"]
    reasons = api.http.get(f"/v1/jobs/{job}/why").json()["reasons"]
    # Other tests leave jobs of this kind running, or waiting after a first attempt, in the database that all share.
    assert reasons[0]["rule"] in ("no-worker", "busy", "order")


def test_the_stream_begins_with_the_state_and_ends_with_the_job(api: Api) -> None:
    job = api.submit()["id"]
    api.http.post(f"/v1/jobs/{job}/cancel")
    with api.http.stream("GET", f"/v1/jobs/{job}/stream") as stream:
        events = [line.removeprefix("event: ") for line in stream.iter_lines() if line.startswith("event: ")]
    assert events[0] == "state"
    assert events[-1] == "end"


def test_an_old_event_that_comes_again_does_not_end_the_stream(api: Api) -> None:
    job = api.submit()["id"]
    old = {
        "type": "job.state.v1",
        "event_id": f"{job}:1",
        "occurred_at": "2026-01-01T00:00:00Z",
        "correlation_id": job,
        "job_id": job,
        "root_id": job,
        "parent_id": None,
        "tenant": "default",
        "kind": "probe",
        "name": "probe",
        "seq": 1,
        "event": "quarantined",
        "from_state": "RUNNING",
        "state": "QUARANTINED",
        "fence": 1,
        "attempt": 1,
    }
    bus = ThreadedBus(api.environment["SEXTANT_NATS_URL"], "test")
    with api.http.stream("GET", f"/v1/jobs/{job}/stream") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: state"
        while not bus.connected:
            time.sleep(0.01)
        bus.publish("jobs.probe.quarantined.v1", json.dumps(old).encode())
        time.sleep(0.5)
        assert api.http.post(f"/v1/jobs/{job}/cancel").status_code in (200, 202)
        ends = [next(lines) for line in lines if line == "event: end"]
    bus.close()
    assert [json.loads(end.removeprefix("data: "))["state"] for end in ends] == ["CANCELLED"]
