"""What is another tenant's is not there: 404, as for what never was, on every route that names something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import insert

from sextant_scheduler.api import administration, audit, endpoints, jobs, stream, uploads, versions
from sextant_scheduler.api.context import Guarded
from sextant_shared.ids import new_id
from sextant_shared.security import SCOPES
from sextant_shared.store import tables as t

from .conftest import Api

MODULES = (jobs, stream, versions, uploads, endpoints, audit, administration)
NAMING = sorted(
    (method, route.path)
    for module in MODULES
    for route in module.router.routes
    if isinstance(route, Guarded) and "{" in route.path and not route.path.startswith("/v2")
    for method in route.methods or ()
)
NAME, FILE = "only-mine", "weights.bin"


@dataclass(frozen=True)
class Two:
    """What the tenant `default` has, by the parameter of a path, and a client of another tenant that may do all."""

    mine: dict[str, str]
    other: httpx.Client


@pytest.fixture(scope="module")
def two(api: Api) -> Iterator[Two]:
    """One of each kind of object."""
    job = api.submit({"kind": "probe", "name": NAME})["id"]
    upload = api.http.post("/v1/uploads", json={"path": NAME, "size": 3, "sha256": "0" * 64}).json()["id"]
    key = api.key("jobs:read")[0]
    version = {"tenant": "default", "name": NAME, "version": 1, "digest": "d", "job_id": job, "fence": 1, "meta": {}}
    files = [{"path": FILE, "size": 1, "sha256": "0" * 64}]
    with api.engine.begin() as conn:
        for table in (t.datasets, t.models):
            conn.execute(insert(table).values(id=new_id(), files=files, **version))
        values = {"id": new_id(), "tenant": "default", "name": NAME, "generation": 1, "state": "READY"}
        conn.execute(insert(t.endpoints).values(values))
    mine = {"job_id": job, "upload_id": upload, "key_id": key, "reference": NAME, "name": NAME, "path": FILE}
    scopes = [scope for scope in SCOPES if scope != "tenants"]
    made = api.http.post("/v1/keys", json={"name": "all", "scopes": scopes, "tenant": "other"}).json()
    headers = {"Authorization": f"Bearer {made['secret']}"}
    with httpx.Client(base_url=api.http.base_url, headers=headers, timeout=30) as other:
        yield Two(mine, other)


def call(client: httpx.Client, method: str, path: str) -> httpx.Response:
    """One call, with a body that fits."""
    headers = {"Upload-Offset": "0"} if method == "PATCH" else {}
    return client.request(method, path, headers=headers, content=b"abc" if method == "PATCH" else None)


def test_every_route_that_names_something_is_tried() -> None:
    assert len(NAMING) >= 20
    assert {name for _, path in NAMING for name in re.findall(r"\{(\w+)", path)} == {
        *("job_id", "upload_id", "key_id", "reference", "name", "path")
    }


@pytest.mark.parametrize(("method", "path"), NAMING)
def test_what_is_anothers_is_answered_as_what_never_was(api: Api, two: Two, method: str, path: str) -> None:
    filled = re.sub(r"\{(\w+)[^}]*\}", lambda found: two.mine[found[1]], path)
    nothing = {name: str(uuid4()) if len(value) == 36 else "never-was" for name, value in two.mine.items()}
    absent = re.sub(r"\{(\w+)[^}]*\}", lambda found: nothing[found[1]], path)
    hidden, never = call(two.other, method, filled), call(two.other, method, absent)
    assert (hidden.status_code, never.status_code) == (404, 404)
    told, wanted = hidden.json()["detail"], never.json()["detail"]
    for name, value in two.mine.items():
        told, wanted = told.replace(value, "X"), wanted.replace(nothing[name], "X")
    assert told == wanted
    if method == "GET" and not path.endswith(("/stream", "/files/{path:path}")):
        assert call(api.http, method, filled).status_code == 200


@pytest.mark.parametrize("path", ["jobs", "datasets", "models", "endpoints", "keys", "audit", "jobs?name=" + NAME])
def test_lists_hold_nothing_of_another_tenant(api: Api, two: Two, path: str) -> None:
    found = two.other.get(f"/v1/{path}").text
    assert NAME not in found
    assert not [value for value in two.mine.values() if len(value) == 36 and value in found]
    assert api.http.get(f"/v1/{path}").json()["items"]


@pytest.mark.parametrize("subject", ["job_id", "upload_id", "key_id"])
def test_the_audit_log_of_another_tenant_is_closed(two: Two, subject: str) -> None:
    assert two.other.get("/v1/audit", params={"subject": two.mine[subject]}).json()["items"] == []
    for params in ({}, {"subject": two.mine[subject]}):
        log = two.other.get("/v1/audit/log", params=params).text
        assert NAME not in log
        assert '"tenant":"default"' not in log.replace(" ", "")


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "train", "data": {"dataset": NAME}, "model": {"zoo": "mlp"}},
        {"kind": "export", "model": {"model": NAME}},
        {"kind": "deploy", "model": {"model": NAME}, "endpoint": "e"},
        {"kind": "prepare", "source": "upload://{upload_id}", "task": "tabular", "target": "y"},
        {"kind": "pipeline", "steps": {"a": {"kind": "export", "model": {"model": f"{NAME}@1"}}}},
    ],
)
def test_a_spec_cannot_name_what_is_anothers(two: Two, spec: dict[str, Any]) -> None:
    if "source" in spec:
        spec = {**spec, "source": f"upload://{two.mine['upload_id']}"}
    answer = two.other.post("/v1/jobs", json=spec)
    assert answer.status_code == 422
    assert "none yet" in answer.text or "does not exist" in answer.text


def test_the_same_idempotency_key_of_two_tenants_makes_two_jobs(api: Api, two: Two) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    first = api.http.post("/v1/jobs", json={"kind": "probe"}, headers=headers).json()["id"]
    second = two.other.post("/v1/jobs", json={"kind": "probe", "priority": 1}, headers=headers)
    assert second.status_code == 202
    assert second.json()["id"] != first
    made = {"name": "k", "scopes": ["infer"]}
    keys = [client.post("/v1/keys", json=made, headers=headers).json()["id"] for client in (api.http, two.other)]
    assert keys[0] != keys[1]


def test_why_counts_the_jobs_of_others_and_does_not_name_them(api: Api, two: Two) -> None:
    api.submit({"kind": "probe", "priority": 100})
    job = two.other.post("/v1/jobs", json={"kind": "probe", "priority": -100}).json()["id"]
    reasons = two.other.get(f"/v1/jobs/{job}/why").json()["reasons"]
    own = {item["id"] for item in two.other.get("/v1/jobs").json()["items"]}
    assert {each for reason in reasons for each in reason["jobs"]} <= own


def test_only_the_operators_keys_act_for_other_tenants(api: Api, two: Two) -> None:
    made = {"name": "k", "scopes": ["jobs:read"]}
    assert two.other.post("/v1/keys", json={**made, "tenant": "default"}).status_code == 403
    assert two.other.post("/v1/keys", json={**made, "tenant": "third"}).status_code == 403
    assert two.other.post("/v1/keys", json={"name": "k", "scopes": ["tenants"]}).status_code == 422
    own = two.other.post("/v1/keys", json={**made, "tenant": "other"})
    assert (own.status_code, own.json()["tenant"]) == (201, "other")
    with httpx.Client(base_url=api.http.base_url) as weak:
        weak.headers["Authorization"] = f"Bearer {api.key('jobs:read')[1]}"
        assert weak.post("/v1/keys", json={**made, "tenant": "other"}).status_code == 403
