"""Identifiers, keys and settings."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from sextant_shared.errors import Forbidden, InvalidInput, Unauthenticated
from sextant_shared.ids import new_id
from sextant_shared.security import Identity, KeyCache, Secret, StoredKey
from sextant_shared.settings import Settings

READER = Identity("1", "reader", "default", frozenset({"jobs:read"}))
ENVIRONMENT = {
    "SEXTANT_DATABASE_URL": "postgresql+psycopg://",
    "SEXTANT_REDIS_URL": "redis://",
    "SEXTANT_NATS_URL": "nats://",
    "SEXTANT_ARTEFACTS_URL": "file:///a",
    "SEXTANT_WORK_DIR": "/w",
}


def test_identifiers_are_version_7_and_never_repeat() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert {i.version for i in ids} == {7}
    assert len(set(ids)) == len(ids)


def test_identifiers_made_apart_in_time_are_in_that_order() -> None:
    ids = []
    for _ in range(50):
        ids.append(new_id())
        until = datetime.now(UTC) + timedelta(microseconds=300)
        while datetime.now(UTC) < until:
            pass
    assert ids == sorted(ids)


def test_a_key_is_known_by_its_secret_alone() -> None:
    secret = Secret.new()
    stored = StoredKey(READER, secret.hash, None)
    assert stored.check(Secret.parse(str(secret))) is READER
    with pytest.raises(Unauthenticated):
        stored.check(Secret(secret.prefix, "guess"))


def test_an_expired_key_opens_nothing() -> None:
    secret = Secret.new()
    with pytest.raises(Unauthenticated):
        StoredKey(READER, secret.hash, datetime.now(UTC) - timedelta(seconds=1)).check(secret)


@pytest.mark.parametrize("text", ["", "sx_", "sx_a", "sx__b", "ab_c_d", "sx_a_\u00e9", "sx_a_" + "b" * 300])
def test_what_can_be_no_key_is_refused_before_the_store_is_asked(text: str) -> None:
    with pytest.raises(Unauthenticated):
        Secret.parse(text)


def test_a_scope_must_be_held_or_admin() -> None:
    READER.require("jobs:read")
    Identity("2", "admin", "default", frozenset({"admin"})).require("jobs:write")
    with pytest.raises(Forbidden, match="jobs:write"):
        READER.require("jobs:write")


def test_the_cache_of_keys_does_not_grow_without_end() -> None:
    cache = KeyCache()
    stored = StoredKey(READER, b"", None)
    for number in range(10_002):
        cache.put(str(number), stored)
    assert cache.get("10001") is stored
    assert cache.get("1") is None


def test_settings_come_from_the_environment_and_a_bad_one_is_named() -> None:
    assert Settings.read({**ENVIRONMENT, "SEXTANT_LEASE_S": "3"}).lease_s == 3.0
    with pytest.raises(InvalidInput, match="SEXTANT_LEASE_S"):
        Settings.read({**ENVIRONMENT, "SEXTANT_LEASE_S": "soon"})
    with pytest.raises(InvalidInput, match="SEXTANT_NATS_URL"):
        Settings.read({k: v for k, v in ENVIRONMENT.items() if k != "SEXTANT_NATS_URL"})
