"""API keys: what the store has of them, how they end, and how one takes the place of another."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from sextant_shared.security import Secret
from sextant_shared.store import tables as t

from .conftest import Api


def status(api: Api, secret: str) -> int:
    """What a key gets."""
    return httpx.get(f"{api.http.base_url}/v1/jobs?limit=1", headers={"Authorization": f"Bearer {secret}"}).status_code


def row(api: Api, key_id: str) -> Any:
    """What the store has of a key."""
    with api.engine.connect() as conn:
        return conn.execute(select(t.api_keys).where(t.api_keys.c.id == key_id)).one()


def test_the_store_has_the_hash_of_the_secret_alone(api: Api) -> None:
    key_id, text = api.key("jobs:read")
    stored, secret = row(api, key_id), Secret.parse(text)
    assert stored.secret_hash == hashlib.sha256(secret.secret.encode()).digest()
    assert secret.secret not in str(dict(stored._mapping))
    with api.engine.connect() as conn:
        assert secret.secret not in str(conn.execute(select(t.audit.c.body)).all())
        assert secret.secret not in str(conn.execute(select(t.replies.c.body)).all())


def test_a_key_that_has_expired_is_refused(api: Api) -> None:
    key_id, secret = api.key("jobs:read")
    with api.engine.begin() as conn:
        past = datetime.now(UTC) - timedelta(seconds=1)
        conn.execute(update(t.api_keys).where(t.api_keys.c.id == key_id).values(expires_at=past))
    assert status(api, secret) == 401


def test_the_days_of_a_key_are_counted_from_now(api: Api) -> None:
    made = api.http.post("/v1/keys", json={"name": "k", "scopes": ["infer"], "expires_in_days": 2}).json()
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=1, hours=23) < left <= timedelta(days=2)


def test_a_key_says_when_it_was_last_used(api: Api) -> None:
    key_id, secret = api.key("jobs:read")
    assert row(api, key_id).last_used_at is None
    assert status(api, secret + "x") == 401
    assert row(api, key_id).last_used_at is None
    assert status(api, secret) == 200
    used = next(item["last_used_at"] for item in api.http.get("/v1/keys").json()["items"] if item["id"] == key_id)
    assert abs(datetime.fromisoformat(used) - datetime.now(UTC)) < timedelta(minutes=1)


def test_a_key_that_is_rotated_ends_and_the_new_one_has_its_rights(api: Api) -> None:
    key_id, old = api.key("jobs:read")
    made = api.http.post(f"/v1/keys/{key_id}/rotate").json()
    assert (made["name"], made["scopes"], made["expires_at"]) == ("k", ["jobs:read"], None)
    assert status(api, made["secret"]) == 200
    assert status(api, old) == 401
    assert api.http.post(f"/v1/keys/{key_id}/rotate").status_code == 409
    events = [item["event"] for item in api.http.get("/v1/audit", params={"subject": key_id}).json()["items"]]
    assert events == ["created", "rotated"]


def test_a_key_that_is_rotated_with_an_overlap_works_on_until_then_at_most(api: Api) -> None:
    key_id, old = api.key("jobs:read")
    assert api.http.post(f"/v1/keys/{key_id}/rotate", json={"overlap_s": 3600}).status_code == 201
    assert status(api, old) == 200
    left = row(api, key_id).expires_at - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    soon = datetime.now(UTC) + timedelta(minutes=1)
    with api.engine.begin() as conn:
        conn.execute(update(t.api_keys).where(t.api_keys.c.id == key_id).values(expires_at=soon))
    made = api.http.post(f"/v1/keys/{key_id}/rotate", json={"overlap_s": 3600}).json()
    assert row(api, key_id).expires_at == soon == datetime.fromisoformat(made["expires_at"])


@pytest.mark.parametrize("body", [{"overlap_s": -1}, {"overlap_s": 10**9}, {"overlap_s": "1"}, {"x": 1}, []])
def test_a_rotation_that_makes_no_sense_is_refused(api: Api, body: Any) -> None:
    key_id, secret = api.key("jobs:read")
    assert api.http.post(f"/v1/keys/{key_id}/rotate", json=body).status_code == 422
    assert status(api, secret) == 200
