"""Nothing is open that should not be."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import update

from sextant_scheduler.api.application import OPEN_ROUTES
from sextant_shared.store import tables as t

from .conftest import Api


def calls(api: Api) -> list[tuple[str, str]]:
    """Every route of the published description, with identifiers filled in."""
    paths = api.http.get("/openapi.json").json()["paths"]
    filled = {path: re.sub(r"\{[^}]*\}", str(uuid4()), path) for path in paths}
    return [(method.upper(), filled[path]) for path, item in paths.items() for method in item]


def test_every_route_but_the_open_ones_wants_a_key(api: Api) -> None:
    refused = 0
    with httpx.Client(base_url=api.http.base_url) as stranger:
        for method, path in calls(api):
            if path in OPEN_ROUTES:
                continue
            for headers in ({}, {"Authorization": "Bearer sx_none_none"}, {"Authorization": "Basic YTpi"}):
                answer = stranger.request(method, path, headers=headers, json={})
                assert answer.status_code == 401, (method, path, answer.status_code, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
            refused += 1
    assert refused > 25


def test_a_key_without_scopes_that_matter_is_refused_everywhere(api: Api) -> None:
    _, secret = api.key("infer")
    with httpx.Client(base_url=api.http.base_url, headers={"Authorization": f"Bearer {secret}"}) as weak:
        for method, path in calls(api):
            if path in OPEN_ROUTES or path.startswith("/v2/"):
                continue
            answer = weak.request(method, path, json={"name": "k", "scopes": ["infer"]})
            # A body that is not valid may be refused before the scope is looked at; it must never be taken.
            assert answer.status_code in (403, 422), (method, path, answer.status_code, answer.text)


def test_a_reader_reads_and_does_not_write(api: Api) -> None:
    _, secret = api.key("jobs:read")
    with httpx.Client(base_url=api.http.base_url, headers={"Authorization": f"Bearer {secret}"}) as reader:
        assert reader.get("/v1/jobs").status_code == 200
        refused = reader.post("/v1/jobs", json={"kind": "probe"})
    assert refused.status_code == 403
    assert "jobs:write" in refused.json()["detail"]


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_a_key_that_is_over_is_refused_everywhere(api: Api, how: str) -> None:
    key_id, secret = api.key("admin")
    if how == "revoked":
        assert api.http.delete(f"/v1/keys/{key_id}").status_code == 200
    else:
        with api.engine.begin() as conn:
            past = datetime.now(UTC) - timedelta(seconds=1)
            conn.execute(update(t.api_keys).where(t.api_keys.c.id == key_id).values(expires_at=past))
    with httpx.Client(base_url=api.http.base_url, headers={"Authorization": f"Bearer {secret}"}) as former:
        for method, path in calls(api):
            if path not in OPEN_ROUTES:
                assert former.request(method, path, json={}).status_code == 401, (method, path)


def test_a_websocket_is_not_opened(api: Api) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    with httpx.Client(base_url=api.http.base_url, headers=upgrade) as stranger:
        for path in (f"/v1/jobs/{uuid4()}/stream", "/v1/jobs", "/ws"):
            assert stranger.get(path).status_code in (400, 401, 403, 404), path


@pytest.mark.parametrize("scopes", [[], ["everything"], ["jobs:read"] * 50])
def test_scopes_that_do_not_exist_are_refused(api: Api, scopes: list[str]) -> None:
    assert api.http.post("/v1/keys", json={"name": "k", "scopes": scopes}).status_code == 422


def test_no_secret_is_shown_twice(api: Api) -> None:
    _, secret = api.key("jobs:read")
    listed = api.http.get("/v1/keys").text
    assert secret not in listed
    assert secret.rpartition("_")[2] not in listed
