"""API keys: how they are made, stored and checked, and the scopes that they carry."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from sextant_shared.errors import Forbidden, InvalidInput, Unauthenticated
from sextant_shared.ids import new_id
from sextant_shared.store import tables as t

SCOPES = (
    "jobs:read",
    "jobs:write",
    "data:read",
    "data:write",
    "models:read",
    "infer",
    "nodes:read",
    "audit:read",
    "tenants",
    "admin",
)
OPERATOR = "default"
"""The tenant whose keys with the scope `tenants` may act for others; those of another tenant never can."""
LEAST = 32
"""Characters of a secret that somebody else has made."""
CACHE_S = 5.0
REMEMBERED = 10_000
USED_EVERY_S = 60.0
"""How old `last_used_at` may be before a process writes it again."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: the key's name, its tenant and what it may do."""

    key_id: str
    name: str
    tenant: str
    scopes: frozenset[str]

    @property
    def actor(self) -> str:
        """How the audit log names the caller."""
        return f"key:{self.name}"

    def require(self, scope: str) -> None:
        """Raise Forbidden unless the key has `scope`, or `admin`."""
        if scope not in self.scopes and "admin" not in self.scopes:
            raise Forbidden(f"this needs the scope {scope!r}; the key {self.name!r} has {sorted(self.scopes)}")

    def acting_for(self, tenant: str) -> Identity:
        """The caller as one of `tenant`. Raises Forbidden unless that is its own, or it may act for others."""
        if tenant == self.tenant:
            return self
        self.require("tenants")
        if self.tenant != OPERATOR:
            raise Forbidden("only keys of the platform's operator act for other tenants")
        return replace(self, tenant=tenant)


@dataclass(frozen=True, slots=True)
class Secret:
    """A key in its parts: sx_<prefix>_<secret>. Only the secret's hash is stored."""

    prefix: str
    secret: str

    @classmethod
    def new(cls) -> Secret:
        """A fresh key with 256 random bits."""
        return cls(secrets.token_hex(6), secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> Secret:
        """Raises Unauthenticated for anything that no key can be."""
        kind, _, rest = text.partition("_")
        prefix, _, secret = rest.partition("_")
        if kind != "sx" or not prefix or not secret or len(text) > 200 or not text.isascii():
            raise Unauthenticated()
        return cls(prefix, secret)

    @classmethod
    def chosen(cls, text: str) -> Secret:
        """One that an operator has set. Raises InvalidInput where it is none, or too short to be random."""
        try:
            secret = cls.parse(text)
        except Unauthenticated:
            secret = None
        if secret is None or len(secret.secret) < LEAST or len(set(secret.secret)) < LEAST // 2:
            raise InvalidInput(
                f"SEXTANT_ADMIN_KEY and SEXTANT_SERVICE_KEY are sx_PREFIX_SECRET with {LEAST} random characters or more"
            )
        return secret

    @property
    def hash(self) -> bytes:
        """SHA-256 of the secret part: enough, as it has 256 bits of its own."""
        return hashlib.sha256(self.secret.encode()).digest()

    def __str__(self) -> str:
        return f"sx_{self.prefix}_{self.secret}"


def store_key(conn: Connection, secret: Secret, *, tenant: str, name: str, scopes: list[str]) -> None:
    """Insert a key that was made elsewhere; one that is known already stays as it is."""
    row = {
        "id": new_id(),
        "tenant": tenant,
        "name": name,
        "prefix": secret.prefix,
        "secret_hash": secret.hash,
        "scopes": scopes,
    }
    conn.execute(insert(t.api_keys).values(row).on_conflict_do_nothing(index_elements=["prefix"]))


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key as the store has it."""

    identity: Identity
    secret_hash: bytes
    expires_at: datetime | None

    def check(self, secret: Secret) -> Identity:
        """Raise Unauthenticated unless `secret` is this key and it has not expired."""
        expired = self.expires_at is not None and self.expires_at <= datetime.now(UTC)
        if expired or not hmac.compare_digest(self.secret_hash, secret.hash):
            raise Unauthenticated()
        return self.identity


def find_key(conn: Connection, prefix: str) -> StoredKey | None:
    """The key with this prefix, unless it was revoked."""
    query = select(t.api_keys).where(t.api_keys.c.prefix == prefix, t.api_keys.c.revoked_at.is_(None))
    row = conn.execute(query).one_or_none()
    if row is None:
        return None
    identity = Identity(str(row.id), row.name, row.tenant, frozenset(row.scopes))
    return StoredKey(identity, row.secret_hash, row.expires_at)


def mark_used(conn: Connection, key_id: str) -> None:
    """Remember that a key was used just now."""
    conn.execute(update(t.api_keys).where(t.api_keys.c.id == UUID(key_id)).values(last_used_at=func.clock_timestamp()))


class KeyCache:
    """Keys seen in the last seconds, so that a request does not cost a query; a revoked key works that much longer."""

    def __init__(self) -> None:
        self._keys: dict[str, tuple[float, StoredKey]] = {}
        self._told: dict[str, float] = {}

    def get(self, prefix: str) -> StoredKey | None:
        """The key, if it was looked up a moment ago."""
        entry = self._keys.get(prefix)
        return entry[1] if entry and entry[0] > time.monotonic() else None

    def is_use_untold(self, key_id: str) -> bool:
        """Whether the store was not told in the last minute that the key is used; it counts as told from now on."""
        now = time.monotonic()
        if now - self._told.get(key_id, -USED_EVERY_S) < USED_EVERY_S:
            return False
        if len(self._told) > REMEMBERED:
            self._told.clear()
        self._told[key_id] = now
        return True

    def put(self, prefix: str, key: StoredKey) -> None:
        """Remember a key for CACHE_S seconds."""
        if len(self._keys) > REMEMBERED:
            self._keys.clear()
        self._keys[prefix] = (time.monotonic() + CACHE_S, key)
